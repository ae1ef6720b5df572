"""Report: one HTML file per sweep that opens offline, its plots as PNG files, a live page, and an index of all sweeps."""
