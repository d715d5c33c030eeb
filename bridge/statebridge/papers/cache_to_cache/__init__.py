"""Fused caches (C2C, arXiv 2510.03215): the format of the published fusers."""
