"""Executors: how groups of rows are carried out."""
