"""Other software on the same work, one module each."""
