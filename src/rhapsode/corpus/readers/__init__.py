"""One reader a format: bytes in, records out."""
