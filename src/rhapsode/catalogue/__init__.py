"""Open models: what there is, what fits this machine, and how it comes here."""
