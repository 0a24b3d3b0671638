"""Weights that others have published, as those of our networks."""
