"""Reuse: keys of lanes and fits, and lanes that earlier runs computed."""
