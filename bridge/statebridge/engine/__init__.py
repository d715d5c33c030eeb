"""The engine: planning, the two sweeps, decoding, measures. Needs torch and nnsight."""
