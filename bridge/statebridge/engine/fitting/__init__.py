"""Fitting translators on the states of a pair, and training them through the receiver."""
