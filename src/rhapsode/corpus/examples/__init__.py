"""Examples to tune on: people's files of any common shape, recognised, converted, and checked whole before use."""
