"""Translators: maps from the sender's states to the receiver's space.

The names in `__init__.pyi` are public and loaded on first use: all need torch, but the modules of
`kinds` do not.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
