"""A record, or one search of it, as files that travel."""
