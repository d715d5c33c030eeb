"""The sections of a report as tables and sentences: one module for each."""
