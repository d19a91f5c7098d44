import numpy as np
import pytest

from dlaconv.ir.calibration.dataset import Computed, Dataset, Kept, Stacked
from tests.ir.scales.graphs import Net


class Counting(Dataset):
    """Two samples, and how often they were made."""

    names = ("x",)

    def __init__(self):
        self.made = 0

    def __len__(self):
        return 2

    def samples(self):
        self.made += 1
        yield from ({"x": np.full((1, 3), i, np.float32)} for i in range(2))


def test_stacked_samples_have_a_batch_of_one():
    data = Stacked({"a": np.arange(6).reshape(3, 2), "b": np.zeros((4, 5))})
    assert len(data) == 3
    assert [feeds["a"].tolist() for feeds in data] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert all(feeds["b"].shape == (1, 5) for feeds in data)


def test_a_data_set_without_samples_is_false():
    assert not Stacked({})
    assert Stacked({"x": np.zeros((1, 2))})


def test_the_first_samples_are_those_that_come_first():
    data = Stacked({"x": np.arange(5).reshape(5, 1)})
    assert [int(feeds["x"][0, 0]) for feeds in data.first(2)] == [0, 1]
    assert len(data.first(2)) == 2
    assert len(data.first(9)) == 5


@pytest.mark.parametrize(("limit", "made"), [(24, 1), (23, 3)])
def test_samples_are_kept_if_they_fit(limit, made):
    counting = Counting()
    data = Kept(counting, limit)
    seen = [[float(feeds["x"][0, 0]) for feeds in data] for _ in range(3)]
    assert seen == [[0, 1]] * 3
    assert counting.made == made


def test_a_pass_that_is_broken_off_keeps_nothing():
    counting = Counting()
    data = Kept(counting)
    next(iter(data))
    assert len(list(data)) == 2
    assert len(list(data)) == 2
    assert counting.made == 2


def test_computed_values_are_those_of_the_network():
    net = Net(channels=4, size=4)
    result = net.relu(net.x)
    net.output(result)
    data = Computed(net.model, [result.name], Stacked({"x": net.data}))
    assert set(data.names) == {"x", result.name}
    for feeds, sample in zip(data, net.data, strict=True):
        assert np.array_equal(feeds[result.name][0], np.maximum(sample, 0))


def test_the_digest_tells_values_names_and_order_apart():
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    digests = {
        Stacked({"x": array}).digest(),
        Stacked({"y": array}).digest(),
        Stacked({"x": array[::-1]}).digest(),
        Stacked({"x": array + 1}).digest(),
        Stacked({"x": array[:2]}).digest(),
    }
    assert len(digests) == 5
    assert Stacked({"x": array}).digest() == Kept(Stacked({"x": array.copy()})).digest()
