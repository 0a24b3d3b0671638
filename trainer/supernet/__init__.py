"""One network that holds the weights of every member of a search space."""
