"""Data, training and weight inheritance."""
