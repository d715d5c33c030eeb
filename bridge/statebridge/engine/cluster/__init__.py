"""A Ray cluster: actors that own models on its nodes, and what they are given to do."""
