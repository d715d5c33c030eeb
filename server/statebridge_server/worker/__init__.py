"""The worker process: holds its models, takes one job after another, commits group by group."""
