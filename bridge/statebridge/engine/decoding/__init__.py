"""Decoding of a group of lanes after their prefill."""
