"""The report: one HTML file a sweep that opens offline, its plots as pictures, a live page, an index of all sweeps."""
