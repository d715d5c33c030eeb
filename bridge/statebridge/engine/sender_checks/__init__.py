"""Checks inside the sender: is what it sends used there?"""
