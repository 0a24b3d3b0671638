"""Comparing samplers on problems whose answers are known, without a record."""
