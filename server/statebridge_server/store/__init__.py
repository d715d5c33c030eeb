"""The job store: keys, uploads, translators, jobs and their events, in any SQLAlchemy database."""
