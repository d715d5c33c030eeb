"""Experiment files: reading, settings given beside a file, and mistakes in the file's own words."""
