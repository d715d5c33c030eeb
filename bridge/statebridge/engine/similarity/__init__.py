"""Similarity of the states of two models, layer by layer."""
