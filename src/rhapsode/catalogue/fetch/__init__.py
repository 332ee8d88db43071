"""Ways to a model's files: a hub, a package index, a place on this machine."""
