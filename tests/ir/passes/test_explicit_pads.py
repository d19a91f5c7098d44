import numpy as np
import onnx_ir as ir
import pytest
from harness import Net, context, node_of, ops, random_feeds, run_pass
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.passes.explicit_pads import explicit_pads

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(4, 3, 3, 3))


def pads(model, op_type="Conv"):
    return list(node_of(model, op_type).attributes["pads"].as_ints())


def test_absent_attributes_are_written_out():
    net = Net(x=[1, 3, 8, 8])
    net.op("Conv", "x", WEIGHTS, out="y")
    attributes = node_of(run_pass(explicit_pads, net.model("y")), "Conv").attributes
    assert {name: attribute.value for name, attribute in attributes.items()} == {
        "kernel_shape": (3, 3),
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0, 0, 0),
        "group": 1,
    }


@settings(max_examples=60, deadline=None)
@given(
    op_type=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    auto_pad=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    ceil=st.integers(0, 1),
    count=st.integers(0, 1),
)
def test_explicit_pads_compute_the_same(op_type, auto_pad, size, kernel, stride, ceil, count):
    assume(op_type == "Conv" or min(kernel) >= stride)  # onnxruntime refuses the others
    net = Net(x=[1, 2, *size])
    extra = [RNG.normal(size=(3, 2, *kernel))] if op_type == "Conv" else []
    more = {} if op_type == "Conv" else {"kernel_shape": kernel, "ceil_mode": ceil}
    if op_type == "AveragePool":
        more["count_include_pad"] = count
    net.op(op_type, "x", *extra, auto_pad=auto_pad, strides=[stride, stride], out="y", **more)
    attributes = node_of(run_pass(explicit_pads, net.model("y")), op_type).attributes
    assert "auto_pad" not in attributes
    assert {"pads", "kernel_shape", "strides"} <= attributes.keys()


def test_dilated_convolutions_pad_by_what_the_window_covers():
    net = Net(x=[1, 3, 9, 9])
    net.op("Conv", "x", WEIGHTS, auto_pad="SAME_UPPER", dilations=[2, 2], out="y")
    model = net.model("y")
    explicit_pads(model, context())  # onnxruntime does not run the source
    assert pads(model) == [2, 2, 2, 2]


def test_one_dimensional_convolutions_work_too():
    net = Net(x=[1, 3, 9])
    net.op("Conv", "x", WEIGHTS[..., 0], auto_pad="SAME_LOWER", strides=[2], out="y")
    assert pads(run_pass(explicit_pads, net.model("y"))) == [1, 1]


@pytest.mark.parametrize(("size", "stays"), [(8, True), (9, False)])
def test_ceil_mode_stays_only_where_it_counts(size, stays):
    net = Net(x=[1, 3, size, size])
    net.op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, out="y")
    model = run_pass(explicit_pads, net.model("y"))
    assert ("ceil_mode" in node_of(model, "MaxPool").attributes) == stays


def padded(net, x="x", amounts=(0, 0, 1, 2, 0, 0, 0, 1), **attributes):
    return net.op("Pad", x, np.array(amounts), **attributes)


def test_a_pad_goes_into_the_convolution():
    net = Net(x=[1, 3, 8, 8])
    net.op("Conv", padded(net), WEIGHTS, pads=[1, 1, 1, 1], out="y")
    model = run_pass(explicit_pads, net.model("y"))
    assert ops(model) == ["Conv"]
    assert pads(model) == [2, 3, 1, 2]


def test_a_pad_in_front_of_an_automatic_one_is_added_to_it():
    net = Net(x=[1, 3, 8, 8])
    net.op("Conv", padded(net), WEIGHTS, auto_pad="SAME_UPPER", strides=[2, 2], out="y")
    assert ops(run_pass(explicit_pads, net.model("y"))) == ["Conv"]


def test_a_pad_with_axes_and_an_explicit_zero_is_understood():
    net = Net(x=[1, 3, 8, 8])
    value = net.op("Pad", "x", np.array([1, 0, 2, 0]), np.float32(0), np.array([-1, 2]))
    net.op("Conv", value, WEIGHTS, out="y")
    assert pads(run_pass(explicit_pads, net.model("y"))) == [0, 1, 0, 2]


def test_a_pad_goes_through_symmetric_quantisers_into_every_convolution():
    net = Net(x=[1, 3, 8, 8])
    value = net.quantize(padded(net), out="q")
    net.op("Conv", value, WEIGHTS, out="a")
    net.op("Conv", net.quantize(value, np.full((1, 3, 1, 1), 0.5)), WEIGHTS, out="b")
    model = run_pass(explicit_pads, net.model("a", "b"))
    assert "Pad" not in ops(model)
    assert "q" not in {value.name for node in model.graph for value in node.outputs}


@pytest.mark.parametrize(
    "quantiser", [{"zero_point": 3.0, "signed": False}, {"step": np.ones((1, 1, 9, 11))}]
)
def test_a_pad_stays_in_front_of_a_quantiser_that_changes_zeros(quantiser):
    net = Net(x=[1, 3, 8, 8])
    net.op("Conv", net.quantize(padded(net), **quantiser), WEIGHTS, out="y")
    assert "Pad" in ops(run_pass(explicit_pads, net.model("y")))


@pytest.mark.parametrize(
    ("amounts", "fill", "mode"),
    [
        ((0, 0, 1, 1, 0, 0, 1, 1), 0.5, "constant"),
        ((0, 0, 1, 1, 0, 0, 1, 1), 0.0, "reflect"),
        ((0, 1, 0, 0, 0, 0, 0, 0), 0.0, "constant"),
        ((0, 0, -1, 0, 0, 0, 0, 0), 0.0, "constant"),
    ],
)
def test_other_pads_stay(amounts, fill, mode):
    net = Net(x=[1, 3, 8, 8])
    value = net.op("Pad", "x", np.array(amounts), np.float32(fill), mode=mode)
    channels = 3 + amounts[1]
    net.op("Conv", value, RNG.normal(size=(2, channels, 3, 3)), out="y")
    assert "Pad" in ops(run_pass(explicit_pads, net.model("y")))


def test_a_pad_that_something_else_reads_stays():
    net = Net(x=[1, 3, 8, 8])
    value = padded(net)
    net.op("Conv", value, WEIGHTS, out="y")
    net.op("MaxPool", value, kernel_shape=[2, 2], out="z")
    assert "Pad" in ops(run_pass(explicit_pads, net.model("y", "z")))


def test_a_pad_that_is_a_graph_output_stays():
    net = Net(x=[1, 3, 8, 8])
    value = padded(net)
    net.op("Conv", value, WEIGHTS, out="y")
    model = net.model("y", value)
    assert "Pad" in ops(run_pass(explicit_pads, model, feeds=random_feeds(model)))


def test_pads_that_torchscript_computes_in_the_graph_are_folded():
    """``F.pad(x, (1, 2, 0, 1))`` without constant folding, as PyTorch 1.x and 2.x export it."""
    net = Net(x=[1, 3, 8, 8])
    stated = integers(net, [1, 2, 0, 1])
    count = net.op("Gather", net.op("Shape", stated), integers(net, [0]), axis=0)
    rank = net.op("Mul", integers(net, 4), integers(net, 2))
    zeros = net.op("ConstantOfShape", net.op("Sub", rank, count), value=ir.tensor([0]))
    every = net.op("Concat", net.op("Cast", stated, to=ir.DataType.INT64), zeros, axis=0)
    pairs = net.op("Reshape", every, integers(net, [-1, 2]))
    last_first = net.op(
        "Slice", pairs, integers(net, [-1]), integers(net, [-(2**63) + 1]), integers(net, [0]),
        integers(net, [-1]),
    )  # fmt: skip
    flat = net.op("Reshape", net.op("Transpose", last_first, perm=[1, 0]), integers(net, [-1]))
    padded = net.op("Pad", "x", net.op("Cast", flat, to=ir.DataType.INT64))
    net.op("Conv", padded, WEIGHTS, out="y")
    net.values["y"].shape = ir.Shape([1, 4, 7, 9])  # which ONNX does not see
    after = run_pass(CANONICAL, net.model("y"), tolerance=1e-5)
    assert ops(after) == ["Conv"]
    assert pads(after) == [0, 1, 1, 2]


def integers(net, numbers):
    return net.const(np.array(numbers, np.int64), dtype=np.int64)
