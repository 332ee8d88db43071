"""A model directory to one GGUF file."""
