"""Rows of a run in the formats of other programs: a file for each format.

Each file adds to `statebridge.results.formats.RESULT_FORMATS` and is found there by its name.
"""
