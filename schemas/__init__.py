"""Schemas and target descriptions, as package data."""
