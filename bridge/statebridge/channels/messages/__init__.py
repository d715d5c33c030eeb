"""Parts of channels that send a message: maps, choice of layers, noise and zeros."""
