"""QuantizeLinear and DequantizeLinear, against onnxruntime and against numpy."""

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from tests.frontends.builders import random, rules, tensor
from tests.frontends.onnx.plain import (
    assert_same,
    canonical,
    contrib,
    load,
    operators,
    plain,
)

IMAGE = (1, 3, 4, 4)
WEIGHTS = np.random.default_rng(1).integers(-128, 128, (5, 3, 3, 3)).astype(np.int8)


def qdq(x, y, scale="s", zero="z", **attributes):
    """A pair of nodes."""
    inputs = [scale, zero] if zero else [scale]
    return [
        ("QuantizeLinear", [x, *inputs], [f"{y}_q"], attributes),
        ("DequantizeLinear", [f"{y}_q", *inputs], [y], attributes),
    ]


def numbers(scale=0.25, zero=0, kind=np.int8):
    return {"s": np.asarray(scale, np.float32), "z": np.asarray(zero, kind)}


def ties(shape=IMAGE, step=0.25, spread=200):
    """Values on half units of a step, so that every second one is a tie."""
    return (np.random.default_rng(0).integers(-spread, spread, shape) * step / 2).astype(np.float32)


def quantisers(model):
    return [dialect.quantisation_of(node) for node in model.graph if dialect.is_quantize(node)]


TYPES = [(np.int8, -128, 127), (np.uint8, 0, 255), (np.int16, -32768, 32767), (np.uint16, 0, 65535)]


@pytest.mark.parametrize(("kind", "low", "high"), TYPES[:2])
@pytest.mark.parametrize("zero", [0, 1, 3, 100, 127])
@pytest.mark.parametrize("opset", [10, 13, 18, 19, 21])
def test_a_pair_computes_the_same_ties_included(tmp_path, kind, low, high, zero, opset):
    model = plain(qdq("x", "y"), numbers(0.25, zero, kind), opset=opset)
    before = assert_same(tmp_path, model, x=ties())
    (quantisation,) = quantisers(before)
    assert quantisation.symmetric
    assert (quantisation.qmin, quantisation.qmax) == (low - zero, high - zero)


@pytest.mark.parametrize(("kind", "low", "high"), TYPES)
@pytest.mark.parametrize("scale", [0.1, 0.037, 3e-5, 1e4])
def test_float_scales_and_every_type_compute_the_same(tmp_path, kind, low, high, scale):
    zero = 5 if low == 0 else -7
    model = plain(qdq("x", "y"), numbers(scale, zero, kind), opset=21)
    x = random(*IMAGE, spread=scale * high)
    before = assert_same(tmp_path, model, x=x)
    assert (quantisers(before)[0].qmin, quantisers(before)[0].qmax) == (low - zero, high - zero)


@pytest.mark.parametrize(("kind", "low", "high"), [("INT4", -8, 7), ("UINT4", 0, 15)])
def test_types_of_four_bits(tmp_path, kind, low, high):
    model = plain(qdq("x", "y"), {"s": np.float32(0.25)}, opset=21)
    kind = getattr(TensorProto, kind)
    model.graph.initializer.append(helper.make_tensor("z", kind, [], [3]))
    x = ties(spread=40)
    imported = load(tmp_path, model)
    (got,) = run(imported.model, {"x": x}).values()
    expected = (np.clip(np.rint(x / np.float32(0.25)) + 3, low, high) - 3) * np.float32(0.25)
    assert np.array_equal(got, expected)


def test_values_out_of_range_and_infinite_ones_saturate(tmp_path):
    x = np.array([1e30, -1e30, np.inf, -np.inf, 0.0, -0.0], np.float32).reshape(1, 6)
    model = plain(qdq("x", "y"), numbers(0.5, -3), {"x": [1, 6]})
    assert_same(tmp_path, model, x=x)


@pytest.mark.parametrize("zero", [None, "z"])
def test_an_absent_zero_point_is_0_of_uint8(tmp_path, zero):
    constants = numbers(0.25, 0, np.uint8)
    before = assert_same(tmp_path, plain(qdq("x", "y", zero=zero), constants), x=ties())
    assert (quantisers(before)[0].qmin, quantisers(before)[0].qmax) == (0, 255)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_parameters_of_shape_1_are_per_tensor(tmp_path, shape):
    constants = numbers(np.full(shape, 0.25), np.full(shape, 4), np.uint8)
    before = assert_same(tmp_path, plain(qdq("x", "y"), constants), x=ties())
    assert quantisers(before)[0].step.shape == ()


@pytest.mark.parametrize(("axis", "shape"), [(1, (3, 1, 1)), (-3, (3, 1, 1)), (3, (4,)), (0, ())])
def test_scales_per_channel_lie_on_their_axis(tmp_path, axis, shape):
    size = IMAGE[axis]
    scales = (0.25 * 2.0 ** np.arange(size)).astype(np.float32)
    model = plain(qdq("x", "y", axis=axis), numbers(scales, np.zeros(size)))
    before = assert_same(tmp_path, model, stages=("imported",), x=ties())
    step = quantisers(before)[0].step
    assert step.shape[-len(shape) :] == shape if shape else step.size == 1


def test_several_readers_of_one_tensor_share_its_quantiser(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s", "z"], ["a"]),
        ("DequantizeLinear", ["q", "s", "z"], ["b"]),
        ("Add", ["a", "b"], ["y"]),
    ]
    before = assert_same(tmp_path, plain(nodes, numbers(0.25, 3)), x=ties())
    assert operators(before) == ["QuantizeHalfEven", "Add"]


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_onnxruntime_s_own_pair_is_read(tmp_path, domain):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], domain=domain, name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], domain=domain, name="d"),
    ]
    model = plain(nodes, numbers(0.25, 9, np.uint16), opset=21, domains=[("com.microsoft", 1)])
    assert_same(tmp_path, model, x=ties(spread=9000))


def test_an_output_keeps_its_name_and_the_layer_its_origin(tmp_path):
    nodes = [*qdq("x", "a"), ("Relu", ["a"], ["c"]), *qdq("c", "y")]
    imported = load(tmp_path, plain(nodes, numbers()))
    assert [value.name for value in imported.model.graph.outputs] == ["y"]
    assert [node.metadata_props["dlaconv.layer"] for node in imported.model.graph][:3] == [
        "quantizelinear_a_q", "relu_c", "quantizelinear_y_q",
    ]  # fmt: skip
    values = {value.name for node in imported.model.graph for value in node.outputs}
    assert {"a_q", "y_q"} <= values


def test_a_map_that_is_two_outputs_is_given_twice(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ("DequantizeLinear", ["q", "s", "z"], ["v"]),
    ]
    model = plain(nodes, numbers(0.25, 3), outputs=("y", "v"))
    assert_same(tmp_path, model, x=ties())


REREAD = {
    "another scale": (0.5, 3),
    "another zero point": (0.25, -5),
    "both": (0.75, 20),
}


@pytest.mark.parametrize("case", REREAD)
def test_integers_read_on_another_grid_are_worth_something_else(tmp_path, case):
    scale, zero = REREAD[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s2", "z2"], ["y"]),
    ]
    constants = numbers(0.25, 3) | {"s2": np.float32(scale), "z2": np.int8(zero)}
    assert_same(tmp_path, plain(nodes, constants), tolerance=1e-6, x=ties())


def conv(constants, nodes=(), weights="w", more=(), **attributes):
    """A quantised input, a convolution, and whatever stands around its weights."""
    made = [*qdq("x", "a"), *nodes, ("Conv", ["a", weights, *more], ["y"], attributes)]
    return plain(made, numbers(0.25, 3) | constants)


def weight_values(model):
    """Integers and steps of the weights of the only convolution or fully connected layer."""
    node = next(node for node in model.graph if node.op_type in {"Conv", "Gemm"})
    holder = node.inputs[1].producer()
    assert dialect.is_dequantize(holder)
    return dialect.array_of(holder.inputs[0]), dialect.step_of(holder)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("zero", [None, 0, 100])
@pytest.mark.parametrize("scales", ["tensor", "channel"])
def test_weights_of_integers_are_kept(tmp_path, kind, zero, scales):
    integers = (WEIGHTS.astype(int) + (128 if kind is np.uint8 else 0)).astype(kind)
    scale = np.float32(0.01) if scales == "tensor" else np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
    inputs = ["wq", "ws"] if zero is None else ["wq", "ws", "wz"]
    constants = {"wq": integers, "ws": scale}
    if zero is not None:
        constants["wz"] = np.full(scale.shape, zero, kind)
    nodes = [("DequantizeLinear", inputs, ["w"], {"axis": 0})]
    model = conv(constants, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, step = weight_values(canonical(load(tmp_path, model)))
    assert np.array_equal(array, integers.astype(int) - (zero or 0))
    assert np.array_equal(step.reshape(-1), scale.reshape(-1))


def test_weights_with_zero_points_per_channel_are_kept(tmp_path):
    scales, zeros = np.float32([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0, 1, -5, 100, -128], np.int8)
    nodes = [("DequantizeLinear", ["wq", "ws", "wz"], ["w"], {"axis": 0})]
    model = conv({"wq": WEIGHTS, "ws": scales, "wz": zeros}, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, _ = weight_values(canonical(load(tmp_path, model)))
    assert np.array_equal(array, WEIGHTS.astype(int) - zeros.reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("zeros", [np.zeros(5), np.full(5, 3), [0, 1, 2, 3, 4]])
def test_float_weights_that_are_quantised_in_the_graph_get_their_integers(tmp_path, zeros):
    """As PyTorch exports quantisation-aware training."""
    weights, scales = random(5, 3, 3, 3, seed=4), np.float32([0.05, 0.04, 0.03, 0.02, 0.01])
    constants = {"wf": weights, "ws": scales, "wz": np.asarray(zeros, np.int8)}
    nodes = [
        ("QuantizeLinear", ["wf", "ws", "wz"], ["wq"], {"axis": 0}),
        ("DequantizeLinear", ["wq", "ws", "wz"], ["w"], {"axis": 0}),
    ]
    model = conv(constants, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, _ = weight_values(canonical(load(tmp_path, model)))
    column = np.asarray(zeros).reshape(-1, 1, 1, 1)
    integers = np.rint(weights / scales.reshape(-1, 1, 1, 1))
    assert np.array_equal(array, np.clip(integers + column, -128, 127) - column)


@pytest.mark.parametrize("between", ["Transpose", "Reshape", "Identity"])
def test_weights_are_found_through_layout_operators(tmp_path, between):
    """PyTorch's Linear: DequantizeLinear, Transpose, MatMul."""
    integers = np.random.default_rng(2).integers(-128, 128, (5, 48)).astype(np.int8)
    change = {
        "Transpose": ("Transpose", ["d"], ["w"], {"perm": [1, 0]}),
        "Reshape": ("Reshape", ["d", "target"], ["w"]),
        "Identity": ("Identity", ["d"], ["w"]),
    }[between]
    stored = integers if between == "Transpose" else integers.reshape(48, 5)
    axis = 0 if between == "Transpose" else 1
    nodes = [
        *qdq("x", "a"),
        ("Flatten", ["a"], ["f"]),
        ("DequantizeLinear", ["wq", "ws"], ["d"], {"axis": axis}),
        change,
        ("MatMul", ["f", "w"], ["y"]),
    ]
    constants = {"wq": stored, "ws": np.float32([1, 2, 3, 4, 5]), "target": np.array([48, 5])}
    model = plain(nodes, numbers(0.25, 3) | constants)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, step = weight_values(canonical(load(tmp_path, model)))
    assert step.reshape(-1).tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(array, integers if between == "Transpose" else stored.T)


@pytest.mark.parametrize("kind", [np.int32, np.int8])
def test_a_bias_of_integers_is_read(tmp_path, kind):
    limit = 10**6 if kind is np.int32 else 100
    bias = np.random.default_rng(5).integers(-limit, limit, 5).astype(kind)
    nodes = [
        ("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0}),
        ("DequantizeLinear", ["bq", "bs"], ["b"], {"axis": 0}),
    ]
    scales = np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
    constants = {"wq": WEIGHTS, "ws": scales, "bq": bias, "bs": scales / 4}
    model = conv(constants, nodes, more=["b"])
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())


def test_quantised_constants_that_are_no_weights_become_values(tmp_path):
    nodes = [
        *qdq("x", "a"),
        ("DequantizeLinear", ["cq", "cs", "cz"], ["c"]),
        ("Add", ["a", "c"], ["d"]),
        ("Mul", ["d", "c"], ["y"]),
    ]
    constants = {"cq": np.array([[[200]], [[3]], [[7]]], np.uint8), "cs": np.float32(0.5),
                 "cz": np.uint8(9)}  # fmt: skip
    model = plain(nodes, numbers(0.25, 3) | constants)
    assert_same(tmp_path, model, x=ties())
    after = canonical(load(tmp_path, model))
    assert "Dequantize" not in operators(after)


def test_weights_with_a_step_along_the_wrong_axis_become_floats_with_a_word(tmp_path):
    from dlaconv.ir.passes import CANONICAL
    from dlaconv.ir.pipeline import Context, Pipeline
    from dlaconv.ir.stages import Stage
    from dlaconv.ir.target import Target

    nodes = [("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 1})]
    model = conv({"wq": WEIGHTS, "ws": np.float32([0.1, 0.2, 0.3])}, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    context = Context(Target.load())
    imported = load(tmp_path, model)
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(imported.model, context)
    (rewrite,) = [item for item in context.rewrites if item.name == "integer_weights"]
    assert not rewrite.exact
    assert "no single step per output channel" in rewrite.detail


def test_weights_only_are_integers_in_a_float_network(tmp_path):
    nodes = [
        ("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0}),
        ("Conv", ["x", "w"], ["a"]),
        ("Relu", ["a"], ["y"]),
    ]
    scales = np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
    before = assert_same(
        tmp_path, plain(nodes, {"wq": WEIGHTS, "ws": scales}), tolerance=1e-6, x=ties()
    )
    assert operators(before) == ["Dequantize", "Conv", "Relu"]


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 15), (-127, 127), (None, 7), (-2, None)])
def test_a_clip_behind_a_quantiser_says_its_range(tmp_path, kind, low, high):
    """Brevitas' QCDQ: QuantizeLinear, Clip, DequantizeLinear."""
    if kind is np.uint8:
        low, high = (None if end is None else abs(end) for end in (low, high))
        low, high = (high, low) if low and high and low > high else (low, high)
    ends = {name: end for name, end in (("lo", low), ("hi", high)) if end is not None}
    clip = ["q", "lo" if low is not None else "", "hi" if high is not None else ""]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Clip", clip, ["c"]),
        ("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    constants = {name: np.asarray(end, kind) for name, end in ends.items()}
    model = plain(nodes, numbers(0.25, 3, kind) | constants)
    before = assert_same(tmp_path, model, x=ties(spread=60))
    assert operators(before)[0] == "QuantizeHalfEven"
    assert "Clip" not in operators(before)
    info = np.iinfo(kind)
    ends = (info.min if low is None else low) - 3, (info.max if high is None else high) - 3
    assert (quantisers(before)[0].qmin, quantisers(before)[0].qmax) == ends


def test_a_clip_that_others_read_past_keeps_both_ranges(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Clip", ["q", "lo", "hi"], ["c"]),
        ("DequantizeLinear", ["c", "s", "z"], ["a"]),
        ("DequantizeLinear", ["q", "s", "z"], ["b"]),
        ("Concat", ["a", "b"], ["y"], {"axis": 1}),
    ]
    constants = numbers(0.25, 3) | {"lo": np.int8(-4), "hi": np.int8(5)}
    assert_same(tmp_path, plain(nodes, constants), x=ties())


def test_a_clip_further_on_is_one_of_reals(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("MaxPool", ["q"], ["p"], {"kernel_shape": [2, 2]}),
        ("Clip", ["p", "lo", "hi"], ["c"]),
        ("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    constants = numbers(0.25, 3) | {"lo": np.int8(-4), "hi": np.int8(50)}
    before = assert_same(tmp_path, plain(nodes, constants), x=ties())
    assert operators(before) == ["QuantizeHalfEven", "MaxPool", "Clip"]


def test_a_clip_of_weights_is_computed(tmp_path):
    nodes = [
        ("Clip", ["wq", "lo", "hi"], ["wc"]),
        ("DequantizeLinear", ["wc", "ws"], ["w"], {"axis": 0}),
    ]
    constants = {"wq": WEIGHTS, "ws": np.float32(0.1), "lo": np.int8(-8), "hi": np.int8(7)}
    model = conv(constants, nodes)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())
    array, _ = weight_values(canonical(load(tmp_path, model)))
    assert (array.min(), array.max()) == (-8, 7)


MOVING = {
    "max pool": ("MaxPool", [], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    "reshape": ("Reshape", ["target"], {}),
    "flatten": ("Flatten", [], {}),
    "transpose": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "slice": ("Slice", ["starts", "ends"], {}),
    "gather": ("Gather", ["indices"], {"axis": 1}),
    "pad with the zero point": ("Pad", ["pads", "z"], {}),
    "pad with integer 0": ("Pad", ["pads"], {}),
    "pad with another integer": ("Pad", ["pads", "seven"], {}),
    "pad reflecting": ("Pad", ["pads"], {"mode": "reflect"}),
    "squeeze": ("Squeeze", ["first"], {}),
    "unsqueeze": ("Unsqueeze", ["first"], {}),
    "identity": ("Identity", [], {}),
    "tile": ("Tile", ["repeats"], {}),
    "expand": ("Expand", ["larger"], {}),
    "depth to space": ("DepthToSpace", [], {"blocksize": 1}),
    "resize": ("Resize", ["", "sizes"], {"mode": "nearest"}),
    "reduce max": ("ReduceMax", ["first"], {}),
}
OPERANDS = {
    "target": np.array([1, -1, 2]), "starts": np.array([0, 1]), "ends": np.array([1, 3]),
    "indices": np.array([2, 0]), "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
    "seven": np.asarray(7, np.uint8), "first": np.array([0]), "repeats": np.array([1, 1, 2, 1]),
    "larger": np.array([2, 3, 4, 4]), "sizes": np.float32([1, 1, 2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVING)
@pytest.mark.parametrize("zero", [0, 9])
def test_operators_that_move_integers_move_reals(tmp_path, case, zero):
    op, names, attributes = MOVING[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        (op, ["q", *names], ["m"], attributes),
        ("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    constants = {name: OPERANDS[name] for name in names if name in OPERANDS}
    model = plain(nodes, numbers(0.25, zero, np.uint8) | constants)
    before = assert_same(tmp_path, model, stages=("imported",), x=ties())
    assert op in [node.op_type for node in before.graph]


def test_a_concatenation_of_integers_on_one_grid(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Relu", ["x"], ["r"]),
        ("QuantizeLinear", ["r", "s", "z"], ["p"]),
        ("Concat", ["q", "p", "c"], ["m"], {"axis": 1}),
        ("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    constants = numbers(0.25, 3) | {"c": np.full((1, 1, 4, 4), 55, np.int8)}
    assert_same(tmp_path, plain(nodes, constants), x=ties())


def test_a_split_gives_integers_on_every_side(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Split", ["q", "parts"], ["a", "b"], {"axis": 1}),
        ("DequantizeLinear", ["a", "s", "z"], ["y"]),
        ("DequantizeLinear", ["b", "s", "z"], ["v"]),
    ]
    constants = numbers(0.25, 3) | {"parts": np.array([1, 2])}
    assert_same(tmp_path, plain(nodes, constants, outputs=("y", "v")), x=ties())


def test_a_relu_of_integers_without_zero_point_is_one_of_reals(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Relu", ["q"], ["r"]),
        ("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    assert_same(tmp_path, plain(nodes, numbers(0.25, 0)), x=ties())
    assert rules(load(tmp_path, plain(nodes, numbers(0.25, 3)))) == ["DLA124"]


def test_integers_dequantised_by_hand_are_understood(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("Cast", ["q"], ["f"], {"to": TensorProto.FLOAT}),
        ("Sub", ["f", "zf"], ["g"]),
        ("Mul", ["g", "s"], ["y"]),
    ]
    model = plain(nodes, numbers(0.25, 3) | {"zf": np.float32(3)})
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())


def test_the_class_of_integers_is_that_of_reals(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("ArgMax", ["q"], ["y"], {"axis": 1}),
    ]
    assert_same(tmp_path, plain(nodes, numbers(0.25, 3)), stages=("imported",), x=ties())


REFUSED = {
    "zero scale": (numbers(0.0), {}, "DLA105"),
    "negative scale": (numbers(-1.0), {}, "DLA105"),
    "nan scale": (numbers(np.nan), {}, "DLA105"),
    "huge scale": (numbers(3e38), {}, "DLA105"),
    "scales of another channel count": (numbers(np.ones(2), np.zeros(2)), {}, "DLA118"),
    "an axis out of range": (numbers(np.ones(3), np.zeros(3)), {"axis": 7}, "DLA118"),
    "blocks": (numbers(np.ones((1, 3, 2, 4)), np.zeros((1, 3, 2, 4))), {}, "DLA118"),
    "zero points that differ": (numbers(np.ones(3), [0, 1, 2]), {}, "DLA106"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parameters_that_make_no_grid_are_refused(tmp_path, case):
    constants, attributes, rule = REFUSED[case]
    found = load(tmp_path, plain(qdq("x", "y", **attributes), constants)).diagnostics
    assert set(rules(found)) == {rule}
    assert all(error.help for error in found.errors)
    assert found.errors[0].location.op in {"QuantizeLinear", "DequantizeLinear"}


def test_blocks_of_opset_21_are_refused(tmp_path):
    constants = numbers(np.ones((1, 3, 2, 4)), np.zeros((1, 3, 2, 4)))
    model = plain(qdq("x", "y", axis=2, block_size=2), constants, opset=21)
    assert set(rules(load(tmp_path, model))) <= {"DLA112", "DLA118"}
    assert rules(load(tmp_path, model))


@pytest.mark.parametrize("name", ["s", "z"])
def test_parameters_from_the_data_are_refused(tmp_path, name):
    constants = numbers()
    del constants[name]
    kind = TensorProto.FLOAT if name == "s" else TensorProto.INT8
    nodes = [
        ("ReduceMax", ["x"], ["m"], {"keepdims": 0}),
        ("Cast", ["m"], [name], {"to": kind}),
        *qdq("x", "y"),
    ]
    assert set(rules(load(tmp_path, plain(nodes, constants)))) == {"DLA104"}


INTEGER_ARITHMETIC = {
    "add": ("Add", ["q", "q"], {}),
    "where": ("Where", ["flag", "q", "q"], {}),
    "cast to another type": ("Cast", ["q"], {"to": TensorProto.INT32}),
    "resize linearly": ("Resize", ["q", "", "sizes"], {"mode": "linear"}),
    "concatenation with other integers": ("Concat", ["q", "p"], {"axis": 1}),
}


@pytest.mark.parametrize("case", INTEGER_ARITHMETIC)
def test_arithmetic_on_integers_is_refused_once(tmp_path, case):
    op, inputs, attributes = INTEGER_ARITHMETIC[case]
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("QuantizeLinear", ["x", "s2", "z"], ["p"]),
        (op, inputs, ["m"], attributes),
        ("MaxPool", ["m"], ["n"], {"kernel_shape": [2, 2]}),
        ("DequantizeLinear", ["n", "s", "z"], ["y"]),
    ]
    constants = numbers() | {"s2": np.float32(2), "sizes": OPERANDS["sizes"],
                             "flag": np.array(True)}  # fmt: skip
    found = load(tmp_path, plain(nodes, constants)).diagnostics
    assert rules(found) == ["DLA124"]
    assert found.errors[0].location.op == op
    assert found.errors[0].help


def test_double_maps_are_not_quantised(tmp_path):
    nodes = [("Cast", ["x"], ["d"], {"to": TensorProto.DOUBLE}), *qdq("d", "y")]
    model = plain(nodes, numbers() | {"s": np.float64(0.25)})
    assert "DLA117" in rules(load(tmp_path, model))


def test_everything_wrong_is_said_in_one_run(tmp_path):
    nodes = [
        ("QuantizeLinear", ["x", "bad", "z"], ["a"]),
        ("DequantizeLinear", ["a", "bad", "z"], ["b"]),
        ("QuantizeLinear", ["b", "s", "z"], ["c"]),
        ("Add", ["c", "c"], ["d"]),
        ("DequantizeLinear", ["d", "s", "z"], ["e"]),
        contrib("Frobnicate", ["x"], ["f"]),
        ("Add", ["e", "f"], ["y"]),
    ]
    constants = numbers() | {"bad": np.float32(0)}
    model = plain(nodes, constants, domains=[("com.microsoft", 1)])
    assert sorted(set(rules(load(tmp_path, model)))) == ["DLA102", "DLA105"]


def test_int4_weights_are_read(tmp_path):
    integers = np.random.default_rng(0).integers(-8, 8, (5, 3, 3, 3))
    packed = numpy_helper.from_array(integers.astype(ml_dtypes.int4), "wq")
    nodes = [("DequantizeLinear", ["wq", "ws"], ["w"], {"axis": 0})]
    made = [*qdq("x", "a"), *nodes, ("Conv", ["a", "w"], ["y"])]
    model = plain(made, numbers(0.25, 3) | {"ws": np.float32(0.5)}, opset=21)
    model.graph.initializer.append(packed)
    array, _ = weight_values(canonical(load(tmp_path, model)))
    assert np.array_equal(array, integers)


def test_weights_far_from_their_zero_point_saturate_at_int32(tmp_path):
    nodes = [*qdq("x", "a"), ("DequantizeLinear", ["bq", "bs"], ["b"]), ("Add", ["a", "b"], ["y"])]
    constants = {"bq": np.array([-(2**31), 2**31 - 1, 0], np.int32).reshape(3, 1, 1),
                 "bs": np.float32(2.0**-20)}  # fmt: skip
    model = plain(nodes, numbers(0.25, 3) | constants)
    assert_same(tmp_path, model, tolerance=1e-6, x=ties())


def test_a_zero_point_beyond_float_s_integers_is_no_crash(tmp_path):
    model = plain(qdq("x", "y"), {"s": np.float32(0.25)})
    model.graph.initializer.append(tensor("z", np.int32(2**31 - 1)))
    found = load(tmp_path, model)
    assert found.diagnostics.errors or found.model
