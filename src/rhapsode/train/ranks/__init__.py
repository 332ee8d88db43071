"""Training by several processes: who they are, what they add up, and what becomes of all when one is lost."""
