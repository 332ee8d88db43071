"""Weights made of weights: an adapter into its base, several models into one."""
