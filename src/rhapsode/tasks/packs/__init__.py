"""The packs, one module each."""
