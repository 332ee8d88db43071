"""Text and token ids: the tokenizer, streaming text, chat rendering with its loss mask. Free of torch."""
