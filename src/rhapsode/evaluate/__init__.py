"""Measure a model beside honest yardsticks, every number with its error bar."""
