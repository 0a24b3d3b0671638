"""A search from its first line in the record to its report: created, opened and driven through its stages."""
