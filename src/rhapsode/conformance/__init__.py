"""Evidence that a model is what its authors published: made once, replayed in any reader."""
