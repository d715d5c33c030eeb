"""The job store: keys, datasets, translators, jobs and their events, in any SQLAlchemy database."""
