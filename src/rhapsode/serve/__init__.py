"""A model over HTTP, as OpenAI's clients expect it, with limits on everything that a stranger can send."""
