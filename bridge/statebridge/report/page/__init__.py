"""Pages: templates, style and scripts that reports and live pages share, and those of reports."""
