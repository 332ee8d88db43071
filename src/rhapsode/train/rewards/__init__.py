"""Rewards that can be checked: an answer is right, or it is not, and nobody's opinion is asked."""
