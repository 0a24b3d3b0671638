"""What judges one network, and where it runs."""
