"""Intervals, tests and detectable differences for one sample or two: no knowledge of a run."""
