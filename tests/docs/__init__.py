"""Tests of the documentation: the site, the recipes, the tutorial, the English."""
