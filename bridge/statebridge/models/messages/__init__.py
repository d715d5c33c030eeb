"""Parts of a model that messages are made of: caches, rotations, input vectors."""
