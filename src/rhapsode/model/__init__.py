"""The one decoder, and the architectures as values."""
