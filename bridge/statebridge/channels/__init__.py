"""Channels: what a condition reads, maps and writes. Needs torch."""
