"""Backends: writers of one target format each."""
