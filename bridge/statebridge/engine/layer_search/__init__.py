"""Layer searches: one experiment at many pairs of layers."""
