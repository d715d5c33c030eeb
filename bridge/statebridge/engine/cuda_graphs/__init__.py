"""Decoding steps of static shapes, which a CUDA graph can repeat. They have not met a GPU yet."""
