"""The demo: the published experiment on a small pair, with nothing downloaded."""
