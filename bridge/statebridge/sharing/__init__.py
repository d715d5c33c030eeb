"""Runs and translators in other places: experiment trackers, and the Hugging Face Hub."""
