"""Ranges of maps that the source does not quantise."""
