"""What a search is after: figures, limits, rewards, fronts."""
