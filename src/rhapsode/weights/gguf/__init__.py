"""GGUF, the one-file format of llama.cpp: read whole, and the tables by which it is written."""
