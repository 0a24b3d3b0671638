"""Networks, and networks of a whole space, that are trained alone."""
