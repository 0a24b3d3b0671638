"""The record of searches in SQL."""
