"""Measurements of dlaconv beside its peers, see README.md."""
