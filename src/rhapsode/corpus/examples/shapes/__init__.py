"""The shapes that people's files have, one module each."""
