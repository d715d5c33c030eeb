"""Communicating activations between language model agents, arXiv 2501.14082."""
