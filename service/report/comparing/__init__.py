"""Several searches side by side: the page, and the table that a terminal shows."""
