"""Models written for other programs, and proven there."""
