"""A sweep: lists of values in a recipe, walked run by run and compared in one table."""
