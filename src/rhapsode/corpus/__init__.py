"""Documents: read, repaired, judged, deduplicated, split, and cut into tokens."""
