"""Model directories and checkpoints on disk."""
