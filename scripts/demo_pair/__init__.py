"""Training of the taught pair, whose weights are package data of `statebridge.demo`."""
