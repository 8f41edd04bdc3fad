"""File formats: one room for each."""
