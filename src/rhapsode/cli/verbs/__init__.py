"""One module a verb: its options, the call, and how the result is shown. Heavy imports stand inside the functions."""
