"""A recipe: the five sections of a run as one typed value, read from YAML, planned and walked."""
