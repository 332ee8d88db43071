"""Making weights: one loop, objectives as values."""
