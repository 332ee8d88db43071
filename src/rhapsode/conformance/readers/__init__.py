"""Programs that read a model, each behind the same few questions."""
