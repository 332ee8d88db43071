"""What all sides share: the shape, the texts, the clock, the yardsticks."""
