import numpy as np
import pytest
from harness import Net, node_of, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.merge_quantise import merge_quantise
from dlaconv.ir.rounding import Rounding


def chain(*quantisers, between=None):
    net = Net(x=[1, 3, 8, 8])
    value = "x"
    for index, arguments in enumerate(quantisers):
        if index and between:
            value = net.op(between[0], value, **between[1])
        value = net.quantize(value, **arguments)
    net.op("Tanh", value, out="y")
    after = run_pass(merge_quantise, net.model("y"))
    return after, sum(op.startswith("Quantize") for op in ops(after))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"step": 0.25}, {"step": 0.25}),
        ({"step": 0.3}, {"step": 0.3}),
        ({"step": 0.25, "bits": 4}, {"step": 0.25}),
        ({"step": 0.25, "narrow": True}, {"step": 0.25}),
        ({"step": 0.25, "rounding": Rounding.FLOOR}, {"step": 0.25}),
        ({"step": 0.25}, {"step": 0.25, "rounding": Rounding.FLOOR}),
        ({"step": 0.25, "signed": False, "bits": 7}, {"step": 0.25}),
        ({"step": 0.3, "zero_point": 3.0}, {"step": 0.3, "zero_point": 3.0}),
    ],
)
def test_a_second_quantiser_that_changes_nothing_goes(first, second):
    assert chain(first, second)[1] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"step": 0.25}, {"step": 0.5}),
        ({"step": 0.3}, {"step": 0.3, "rounding": Rounding.FLOOR}),  # k * 0.3 / 0.3 may be below k
        ({"step": 0.3, "bits": 24}, {"step": 0.3, "bits": 24}),
        ({"step": 0.25, "zero_point": 1.0}, {"step": 0.25}),
        ({"step": 0.25}, {"step": np.array([0.25, 0.25, 0.5]).reshape(1, 3, 1, 1)}),
    ],
)
def test_a_second_quantiser_that_may_change_values_stays(first, second):
    assert chain(first, second)[1] == 2


@pytest.mark.parametrize(
    ("first", "second", "limits"),
    [
        ({"step": 0.25}, {"step": 0.25, "bits": 4}, (-8, 7)),
        ({"step": 0.25}, {"step": 0.25, "signed": False}, (0, 127)),
    ],
)
def test_a_smaller_range_on_the_same_step_clips_at_once(first, second, limits):
    after, count = chain(first, second)
    assert count == 1
    quantisation = dialect.quantisation_of(node_of(after, "QuantizeHalfEven"))
    assert (quantisation.qmin, quantisation.qmax) == limits


def test_the_first_rounding_decides_in_a_merged_quantiser():
    after, _ = chain({"step": 0.25, "rounding": Rounding.CEIL}, {"step": 0.25, "bits": 4})
    assert "QuantizeCeil" in ops(after)


@pytest.mark.parametrize(
    "between",
    [
        ("MaxPool", {"kernel_shape": [2, 2]}),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
        ("Relu", {}),
    ],
)
def test_operators_that_move_values_keep_the_grid(between):
    assert chain({"step": 0.3}, {"step": 0.3}, between=between)[1] == 1


def test_relu_makes_a_signed_grid_fit_into_an_unsigned_one():
    assert chain({"step": 0.3}, {"step": 0.3, "signed": False}, between=("Relu", {}))[1] == 1


@pytest.mark.parametrize("between", [("LeakyRelu", {}), ("AveragePool", {"kernel_shape": [2, 2]})])
def test_operators_that_compute_leave_the_grid(between):
    assert chain({"step": 0.25}, {"step": 0.25}, between=between)[1] == 2


@pytest.mark.parametrize(("second", "count"), [(0.25, 2), (0.5, 3)])
def test_concat_of_one_grid_keeps_it(second, count):
    net = Net(x=[1, 3, 8, 8], z=[1, 3, 8, 8])
    joined = net.op("Concat", net.quantize("x", 0.25), net.quantize("z", second), axis=1)
    net.op("Tanh", net.quantize(joined, 0.25), out="y")
    after = run_pass(merge_quantise, net.model("y"))
    assert sum(op.startswith("Quantize") for op in ops(after)) == count


def test_equal_quantisers_on_one_value_become_one():
    net = Net(x=[1, 3, 8, 8])
    net.op("Add", net.quantize("x", 0.3), net.quantize("x", np.array([0.3])), out="y")
    after = run_pass(merge_quantise, net.model("y"))
    assert ops(after) == ["QuantizeHalfEven", "Add"]


@pytest.mark.parametrize("other", [{"step": 0.5}, {"bits": 7}, {"rounding": Rounding.FLOOR}])
def test_different_quantisers_on_one_value_stay(other):
    net = Net(x=[1, 3, 8, 8])
    net.op("Add", net.quantize("x", 0.25), net.quantize("x", **({"step": 0.25} | other)), out="y")
    after = run_pass(merge_quantise, net.model("y"))
    assert len(ops(after)) == 3


def test_a_merged_quantiser_is_not_mistaken_for_its_twin():
    net = Net(x=[1, 3, 8, 8])
    narrow = net.quantize(net.quantize("x", 0.25), 0.25, 4)
    net.op("Add", narrow, net.quantize("x", 0.25), out="y")
    after = run_pass(merge_quantise, net.model("y"))
    assert ops(after) == ["QuantizeHalfEven", "QuantizeHalfEven", "Add"]


@pytest.mark.parametrize("outputs", [["a"], ["b"], ["a", "b"], ["first", "a"]])
def test_graph_outputs_keep_their_names(outputs):
    net = Net(x=[1, 3, 8, 8])
    first = net.quantize("x", 0.25, out="first")
    net.quantize(first, 0.25, out="a")
    net.quantize("x", 0.25, out="b")
    run_pass(merge_quantise, net.model(*outputs))


def test_a_first_quantiser_that_is_read_elsewhere_is_not_clipped():
    net = Net(x=[1, 3, 8, 8])
    first = net.quantize("x", 0.25)
    net.op("Add", net.quantize(first, 0.25, 3), first, out="y")
    after = run_pass(merge_quantise, net.model("y"))
    assert len(ops(after)) == 3
