"""Activation transfer from Pythia-160M to Pythia-410M by linear translation, arXiv 2606.03280."""
