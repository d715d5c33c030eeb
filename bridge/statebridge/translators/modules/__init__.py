"""The maps themselves, as modules of torch."""
