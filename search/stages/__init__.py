"""What a search does, one stage after the other."""
