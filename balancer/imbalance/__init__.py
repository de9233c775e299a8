"""Measures of balance, with and without labels."""
