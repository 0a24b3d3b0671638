"""What finished and running searches tell."""
