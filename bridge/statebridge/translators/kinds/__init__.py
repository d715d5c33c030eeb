"""The kinds of translator, each a function that builds its map. Torch-free until one is built.

Ridge and Procrustes are no kinds of map: both solve for an affine one.
"""
