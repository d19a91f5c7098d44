"""The simulator's integers are the reference's, on random networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_feeds, random_networks

from dlaconv.backends.access.reference import run_reference
from dlaconv.backends.access.semantics.layer import ACTIVATION_ORDERS
from dlaconv.backends.access.simulator import Simulator
from dlaconv.ir.layers import network_of
from dlaconv.ir.rounding import Rounding


def assert_equal_to_reference(model, seed, rounding, order, optimise=True):
    network = network_of(model)
    feeds = random_feeds(network, seed)
    expected = run_reference(network, feeds, rounding=rounding, activation_order=order)
    simulator = Simulator(
        model, rounding=rounding, activation_order=order, fetch="all", optimise=optimise
    )
    got = simulator.run(feeds)
    for name in network.maps:
        np.testing.assert_array_equal(
            got[name], expected[name], err_msg=f"{name} {rounding} {order}"
        )


@pytest.mark.parametrize("order", ACTIVATION_ORDERS)
@pytest.mark.parametrize("rounding", Rounding)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=random_networks(), seed=st.integers(0, 2**16))
def test_every_map_equals_the_reference(model, seed, rounding, order):
    assert_equal_to_reference(model, seed, rounding, order)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=random_networks(), seed=st.integers(0, 2**16), rounding=st.sampled_from(Rounding))
def test_graph_optimisation_changes_no_integer(model, seed, rounding):
    assert_equal_to_reference(model, seed, rounding, "mac", optimise=False)
