"""The `statebridge` command."""
