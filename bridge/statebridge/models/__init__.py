"""Models at layers: finding blocks, loading, capturing. Needs torch, transformers, nnsight."""
