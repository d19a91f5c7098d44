"""A good file for every rule, and a bad one that is its nearest illegal neighbour."""

from tests.backends.access.rules import (
    cases_boundaries,
    cases_layers,
    cases_numbers,
    cases_operators,
)

CASES = (
    *cases_layers.CASES,
    *cases_operators.CASES,
    *cases_numbers.CASES,
    *cases_boundaries.CASES,
)
