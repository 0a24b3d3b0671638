"""What a terminal or a log shows."""
