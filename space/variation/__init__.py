"""Mutation, crossover and the like: of one member of a space at a time, or of thousands at once (`moves`)."""

from space.variation.single import crossover, distance, mutate, nearest

__all__ = ["crossover", "distance", "mutate", "nearest"]
