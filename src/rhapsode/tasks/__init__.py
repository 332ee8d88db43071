"""Task packs: what people tune models for, each with data to begin with, how it is judged, and who looks at it."""
