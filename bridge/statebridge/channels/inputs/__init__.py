"""Inputs of both models: prompts and their limit, token ids, donors and neutral texts."""
