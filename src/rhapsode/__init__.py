"""Your own text into your own language model."""

__version__ = "0.1.0"
