"""Report: one HTML file per sweep that opens offline, its plots as PNG files, a live page, an index of all sweeps."""
