"""The engine: planning, the two paths, decoding, measures. Needs torch and nnsight."""
