"""Fast operators, each beside the plain torch twin that specifies it."""
