"""Planning: from an experiment to groups of rows, prompts and donors."""
