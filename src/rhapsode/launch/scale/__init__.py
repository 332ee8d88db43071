"""What a training would take on many GPUs: memory, traffic and time, from a model's shape. Free of torch."""
