"""Statebridge: can one language model tell another something through its hidden states?"""
