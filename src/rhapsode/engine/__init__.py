"""Use weights: tokens in, tokens out, many requests at a time."""
