"""Pages: the templates, style and scripts that reports and live pages share, and the report's own."""
