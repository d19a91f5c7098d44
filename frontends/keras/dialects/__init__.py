"""Quantisers of libraries for Keras, as pure functions onto integers and grids."""
