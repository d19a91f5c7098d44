"""Scale assignment: power-of-two steps for maps, 2^n/a for weights."""
