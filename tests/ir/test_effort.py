import numpy as np
import pytest

from dlaconv.ir.calibration import effort
from dlaconv.ir.calibration.dataset import Stacked
from tests.ir.scales.graphs import Net


@pytest.fixture
def net():
    made = Net(channels=16, size=8)
    made.output(made.conv(made.quantise(made.x)))
    return made


def test_multiplications_are_those_of_the_convolutions(net):
    assert effort.multiplications(net.model) == 8 * 8 * 16 * 16 * 9


@pytest.mark.parametrize(("looks", "count"), [(0.5, 1), (3.9, 3), (100, 8)])
def test_as_many_samples_are_affordable_as_fit_and_at_least_one(net, monkeypatch, looks, count):
    monkeypatch.setattr(effort, "_ONE_LOOK", looks * effort.multiplications(net.model))
    assert np.array_equal(
        [feeds["x"][0] for feeds in effort.affordable(net.model, Stacked({"x": net.data}))],
        net.data[:count],
    )


def test_a_share_of_the_samples_can_be_asked_for(net, monkeypatch):
    monkeypatch.setattr(effort, "_ONE_LOOK", 8 * effort.multiplications(net.model))
    assert len(effort.affordable(net.model, Stacked({"x": net.data}), 0.5)) == 4
