"""The sentences of a report, each from the statistics and from nothing else."""
