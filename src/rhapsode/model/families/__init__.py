"""Families of open models: each a function from `config.json` to a `ModelSpec`, and its names on disk."""
