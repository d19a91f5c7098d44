import numpy as np
import pytest

from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.calibration.observe import model_digest, observe
from tests.ir.scales.graphs import Net


class Memory(dict):
    """A store that counts what it gives."""

    hits = 0

    def get(self, key):
        self.hits += key in self
        return super().get(key)

    def put(self, key, arrays):
        self[key] = arrays


def made(seed=0):
    net = Net(seed, channels=4, size=4)
    value = net.conv(net.x)
    net.output(net.relu(value))
    return net, value.name


def test_ends_are_those_of_all_samples_and_values_come_from_each():
    net, name = made()
    seen = observe(net.model, Stacked({"x": net.data}), ["x", name])
    assert seen["x"].histogram.high == net.data.max()
    assert seen["x"].histogram.low == net.data.min()
    assert set(net.data.reshape(-1)) == set(seen["x"].values)
    assert seen[name].values.size == net.data.size


def test_samples_that_are_run_at_once_are_seen_as_if_one_after_the_other(monkeypatch):
    net, name = made()
    data = Stacked({"x": np.random.default_rng(1).normal(size=(9, *net.data.shape[1:]))})
    data.arrays["x"] = (data.arrays["x"] * np.arange(1, 10).reshape(-1, 1, 1, 1)).astype("f4")
    seen = []
    for count in (1, 3):
        monkeypatch.setattr("dlaconv.ir.execution.processors", lambda count=count: count)
        seen.append(observe(net.model, data, ["x", name]))
    for key in ("x", name):
        one, other = (found[key] for found in seen)
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.histogram.counts, other.histogram.counts)
        ends = [(found.low, found.high, found.limit, found.zeros) for found in
                (one.histogram, other.histogram)]  # fmt: skip
        assert ends[0] == ends[1]


def test_a_store_gives_back_what_was_seen_without_running_the_model(monkeypatch):
    net, name = made()
    data, store = Stacked({"x": net.data}), Memory()
    first = observe(net.model, data, [name], store)
    monkeypatch.setattr("dlaconv.ir.calibration.observe.Executor", None)
    again = observe(net.model, data, [name], store)
    assert store.hits == 1
    one, other = first[name], again[name]
    assert np.array_equal(one.values, other.values)
    assert np.array_equal(one.histogram.counts, other.histogram.counts)
    assert vars(one.histogram).keys() == vars(other.histogram).keys()
    assert one.histogram.largest == other.histogram.largest


def test_other_data_or_another_model_is_another_key():
    store = Memory()
    net, name = made()
    other, other_name = made(seed=1)
    observe(net.model, Stacked({"x": net.data}), [name], store)
    observe(net.model, Stacked({"x": net.data[1:]}), [name], store)
    observe(net.model, Stacked({"x": net.data}), [name, "x"], store)
    observe(other.model, Stacked({"x": net.data}), [other_name], store)
    assert (store.hits, len(store)) == (0, 4)


def test_what_a_store_has_of_another_kind_is_seen_anew():
    net, name = made()
    data, store = Stacked({"x": net.data}), Memory()
    wanted = observe(net.model, data, [name], store)[name].histogram.counts
    [key] = store
    for field, array in list(store[key].items()):
        store[key] = store[key] | {field: array[:0]}
        assert np.array_equal(
            observe(net.model, data, [name], store)[name].histogram.counts, wanted
        )


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("counts", lambda array: -array),
        ("counts", lambda array: array * 0 + 2**61),
        ("zeros", lambda array: array - 10**6),
        ("seen", lambda array: -array),
        ("ends", lambda array: array * np.nan),
        ("ends", lambda array: array * 0),
        ("ends", lambda array: array * 3),
        ("ends", lambda array: array * [[1, 100, 1]]),
        ("ends", lambda array: array[:, [1, 0, 2]]),
    ],
)
def test_what_no_data_can_have_led_to_is_seen_anew(field, change):
    net, name = made()
    data, store = Stacked({"x": net.data}), Memory()
    wanted = observe(net.model, data, [name], store)[name].histogram
    [key] = store
    store[key] = store[key] | {field: change(store[key][field])}
    again = observe(net.model, data, [name], store)[name].histogram
    assert (again.low, again.high, again.limit) == (wanted.low, wanted.high, wanted.limit)
    assert np.array_equal(again.counts, wanted.counts)


def test_the_digest_depends_on_weights_and_attributes():
    digests = {model_digest(made(seed)[0].model) for seed in range(3)}
    assert len(digests) == 3
    one, other = made()[0].model, made()[0].model
    assert model_digest(one) == model_digest(other)
