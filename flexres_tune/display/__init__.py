"""Values and tables for a terminal, Markdown, CSV and JSON."""
