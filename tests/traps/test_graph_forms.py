"""The same layer in the forms that exporters write it, through to the hardware's integers."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.frontends.builders import QONNX, network, onnxruntime_outputs, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import IMAGE, assert_computes, conv2d, grid, hardware, refusals

STEP, WEIGHT, RESULT = 2.0**-5, 2.0**-7, 2.0**-3
WEIGHTS = random(4, 3, 3, 3, seed=1, spread=0.2)
KEPT = int_quant(WEIGHTS, WEIGHT, 0, 8)
X = grid(4, 3, 8, 8, step=STEP, seed=9)
FLOATS = conv2d(X, KEPT).astype(np.float32)


def quantised(values):
    return int_quant(np.asarray(values, np.float32), RESULT, 0, 8)


MAP = quantised(FLOATS)
"""The quantised result of the first convolution."""


def given(**more):
    constants = {"w": WEIGHTS, "ws": np.float32(WEIGHT), "rs": np.float32(RESULT), **more}
    return parameters(scale=STEP) | constants


def net(*nodes, outputs=("y",), **more):
    """Quant -> Conv ("c") -> Quant ("m") -> ``nodes``; "m" goes if nothing reads it."""
    made = [quant("x", "xq"), quant("w", "wq", "ws"), ("Conv", ["xq", "wq"], ["c"])]
    reads = {
        name for node in nodes for name in (node[1] if isinstance(node, tuple) else node.input)
    }
    if "m" in reads | set(outputs):
        made.append(quant("c", "m", "rs"))
    return network([*made, *nodes], given(**more), IMAGE, outputs)


def assert_through(tmp_path, model, *expected, relative=0.0, x=X):
    """Every stage and the hardware compute what is expected."""
    assert_computes(tmp_path, model, *expected, relative=relative, x=x)
    got = hardware(tmp_path, model, x=x)
    for name, wanted in zip((value.name for value in model.graph.output), expected, strict=True):
        assert np.array_equal(got.outputs[name], wanted), name
    return got


# Fully connected layers.


@pytest.mark.parametrize("order", ["bias first", "bias last"])
@pytest.mark.parametrize("signs", [False, True])
def test_a_perceptron_of_matrix_products(tmp_path, order, signs):
    """MatMul with a Transpose behind the weights' quantiser, and the bias on either side."""
    sizes, x = (16, 12, 8, 4), grid(6, 16, step=STEP, seed=4)
    nodes, more, value, expected = [quant("x", "q0")], {}, "q0", x
    for layer, (k, o) in enumerate(pairwise(sizes)):
        weights = random(o, k, seed=layer, spread=0.3)
        bias = grid(o, step=STEP * WEIGHT if layer == 0 else RESULT * WEIGHT, seed=9)
        more |= {f"w{layer}": weights, f"b{layer}": bias}
        operands = (
            [f"b{layer}", f"m{layer}"] if order == "bias first" else [f"m{layer}", f"b{layer}"]
        )
        quantiser = quant(f"w{layer}", f"wq{layer}", "ws")
        kept = int_quant(weights, WEIGHT, 0, 8)
        if signs:
            inputs = [f"w{layer}", "ws"]
            quantiser = helper.make_node("BipolarQuant", inputs, [f"wq{layer}"], domain=QONNX)
            kept = np.where(weights >= 0, 1, -1) * WEIGHT
        nodes += [
            quantiser,
            ("Transpose", [f"wq{layer}"], [f"wt{layer}"], {"perm": [1, 0]}),
            ("MatMul", [value, f"wt{layer}"], [f"m{layer}"]),
            ("Add", operands, [f"a{layer}"]),
        ]
        expected = expected.astype(np.float64) @ kept.T + bias
        value = f"a{layer}"
        if layer < 2:
            nodes.append(("Relu", [value], [f"r{layer}"]))
            value, expected = f"r{layer}", np.maximum(expected, 0)
        nodes.append(quant(value, f"q{layer + 1}", "rs"))
        value, expected = f"q{layer + 1}", quantised(expected)
    model = network(nodes, given(**more), {"x": [1, 16]}, outputs=[value])
    got = assert_through(tmp_path, model, expected, x=x)
    assert set(got.classes("weight").values()) == {"exact"}


def test_a_batch_written_into_a_reshape(tmp_path):
    """The dynamo exporter flattens with Reshape to [1, N], allowzero set."""
    nodes = [
        ("Reshape", ["m", "to"], ["f"], {"allowzero": 1}),
        quant("v", "vq", "ws"),
        ("Gemm", ["f", "vq"], ["g"], {"transB": 1}),
        quant("g", "y", "rs"),
    ]
    weights = random(5, 144, seed=2, spread=0.1)
    product = MAP.reshape(4, -1).astype(np.float64) @ int_quant(weights, WEIGHT, 0, 8).T
    assert_through(tmp_path, net(*nodes, v=weights, to=np.array([1, 144])), quantised(product))


def test_a_linear_layer_on_three_axes(tmp_path):
    """[1, 1, K] instead of [1, K]."""
    nodes = [
        ("Reshape", ["m", "to"], ["f"]),
        quant("v", "vq", "ws"),
        ("Transpose", ["vq"], ["vt"], {"perm": [1, 0]}),
        ("MatMul", ["f", "vt"], ["g"]),
        quant("g", "y", "rs"),
    ]
    weights = random(5, 144, seed=2, spread=0.1)
    product = MAP.reshape(4, 1, -1).astype(np.float64) @ int_quant(weights, WEIGHT, 0, 8).T
    expected = quantised(product)
    model = net(*nodes, v=weights, to=np.array([1, 1, 144]))
    assert_computes(tmp_path, model, expected, x=X)
    assert np.array_equal(hardware(tmp_path, model, x=X).outputs["y"], expected)


def test_a_permuted_map_in_front_of_a_linear_layer(tmp_path):
    """x.permute(0, 2, 3, 1).flatten(1): the weights' columns go with [H, W, C]."""
    nodes = [
        ("Transpose", ["m"], ["t"], {"perm": [0, 2, 3, 1]}),
        ("Flatten", ["t"], ["f"]),
        quant("v", "vq", "ws"),
        ("Gemm", ["f", "vq"], ["g"], {"transB": 1}),
        quant("g", "y", "rs"),
    ]
    weights = random(5, 144, seed=2, spread=0.1)
    columns = np.moveaxis(MAP, 1, -1).reshape(4, -1).astype(np.float64)
    expected = quantised(columns @ int_quant(weights, WEIGHT, 0, 8).T)
    assert_through(tmp_path, net(*nodes, v=weights), expected)
    written = [node.op_type for node in onnx.load(tmp_path / "net.dla.onnx").graph.node]
    assert "Transpose" not in written


# Normalisation.

NORM = {
    "g": np.array([1, -2, 0.5, -0.25], np.float32),
    "h": grid(4, step=2.0**-6, seed=5),
    "mean": grid(4, step=2.0**-6, seed=6),
    "var": np.ones(4, np.float32),
}


def normalised(values):
    columns = {name: array.reshape(4, 1, 1) for name, array in NORM.items()}
    return (values.astype(np.float64) - columns["mean"]) * columns["g"] + columns["h"]


def test_a_batch_norm_with_negative_gammas_flips_the_signs_of_its_channels(tmp_path):
    """Quantised weights are never fused by the exporter; their integers stay."""
    inputs = ["c", "g", "h", "mean", "var"]
    nodes = [("BatchNormalization", inputs, ["n"], {"epsilon": 0.0}), quant("n", "y", "rs")]
    got = assert_through(tmp_path, net(*nodes, **NORM), quantised(normalised(FLOATS)))
    assert set(got.classes("weight").values()) == {"exact"}
    assert "2 channels" in got.rewrites("fold_batch_norm")[0]["detail"]


def test_the_smallest_weight_times_a_negative_gamma_is_rounded_anew_and_said_so(tmp_path):
    """-128 becomes +128, which no int8 holds."""
    weights = WEIGHTS.copy()
    weights[1, 0, 0, 0] = -1.0
    inputs = ["c", "g", "h", "mean", "var"]
    nodes = [("BatchNormalization", inputs, ["n"], {"epsilon": 0.0}), quant("n", "y", "rs")]
    got = hardware(tmp_path, net(*nodes, **NORM, w=weights), x=X)
    row = got.row("conv_c/weights")
    assert (row["class"], row["channels"]) == ("requantised", [1])
    expected = quantised(normalised(conv2d(X, int_quant(weights, WEIGHT, 0, 8)).astype(np.float32)))
    others = [0, 2, 3]
    assert np.array_equal(got.outputs["y"][:, others], expected[:, others])
    assert np.abs(got.outputs["y"] - expected).max() <= RESULT


def test_a_batch_norm_as_quantised_scale_and_bias(tmp_path):
    """BatchNorm2dToQuantScaleBias: Mul and Add of quantised, reshaped constants."""
    nodes = [
        quant("g", "gq", "ws"),
        ("Reshape", ["gq", "column"], ["gr"]),
        ("Mul", ["c", "gr"], ["s_"]),
        quant("h", "hq", "ws"),
        ("Reshape", ["hq", "column"], ["hr"]),
        ("Add", ["s_", "hr"], ["n"]),
        quant("n", "y", "rs"),
    ]
    gamma, beta = NORM["g"] / 4, NORM["h"] / 8
    model = net(*nodes, g=gamma, h=beta, column=np.array([1, 4, 1, 1]))
    factors = int_quant(gamma, WEIGHT, 0, 8).reshape(4, 1, 1)
    values = FLOATS * factors + int_quant(beta, WEIGHT, 0, 8).reshape(4, 1, 1)
    assert_through(tmp_path, model, quantised(values))


# Sums, joins, averages.


def second_branch(*nodes):
    return [quant("v", "vq", "ws"), ("Conv", ["xq", "vq"], ["d"]), quant("d", "e", "rs"), *nodes]


SECOND = random(4, 3, 3, 3, seed=2, spread=0.2)
BRANCH = quantised(conv2d(X, int_quant(SECOND, WEIGHT, 0, 8)))


def test_a_sum_of_two_quantised_maps(tmp_path):
    """QuantEltwiseAdd: Quant, Quant, Add, Quant."""
    nodes = second_branch(("Add", ["m", "e"], ["s_"]), quant("s_", "y", "rs"))
    assert_through(tmp_path, net(*nodes, v=SECOND), quantised(MAP + BRANCH))


def test_a_residual_whose_skip_branch_is_quantised_once_more(tmp_path):
    """uint8 behind the ReLU, int8 in front of the Add; then Relu and Quant."""
    nodes = [
        ("Relu", ["c"], ["r"]),
        quant("r", "skip", "fs", bits="b7", signed=0),
        quant("v", "vq", "ws"),
        ("Conv", ["skip", "vq"], ["d"]),
        quant("d", "left", "rs"),
        quant("skip", "right", "rs"),
        ("Add", ["left", "right"], ["s_"]),
        ("Relu", ["s_"], ["t"]),
        quant("t", "y", "rs"),
    ]
    weights = random(4, 4, 1, 1, seed=2, spread=0.4)
    skip = int_quant(np.maximum(FLOATS, 0), 2.0**-4, 0, 7, signed=0)
    left = quantised(conv2d(skip, int_quant(weights, WEIGHT, 0, 8)))
    expected = quantised(np.maximum(left + quantised(skip), 0))
    model = net(*nodes, v=weights, fs=np.float32(2.0**-4), b7=np.float32(7))
    got = assert_through(tmp_path, model, expected)
    assert len(got.rewrites("requantise")) == 1


def test_a_concatenation(tmp_path):
    """torch.cat of maps of one quantiser."""
    nodes = second_branch(("Concat", ["m", "e"], ["y"], {"axis": 1}))
    assert_through(tmp_path, net(*nodes, v=SECOND), np.concatenate([MAP, BRANCH], axis=1))


@pytest.mark.parametrize("axes", ["input", "attribute"])
def test_a_mean_over_both_axes_is_a_global_average(tmp_path, axes):
    """AdaptiveAvgPool2d(1) of the dynamo exporter: ReduceMean, axes [-1, -2], keepdims."""
    if axes == "input":
        nodes, opset = [("ReduceMean", ["m", "space"], ["p"], {"keepdims": 1})], 18
    else:
        nodes, opset = [("ReduceMean", ["m"], ["p"], {"axes": [-1, -2], "keepdims": 1})], 13
    nodes.append(quant("p", "y", "rs"))
    model = net(*nodes, space=np.array([-1, -2]))
    model.opset_import[-1].version = opset
    mean = MAP.astype(np.float64).mean((2, 3), keepdims=True)
    assert_through(tmp_path, model, quantised(mean))
    written = [node.op_type for node in onnx.load(tmp_path / "net.dla.onnx").graph.node]
    assert written == ["Conv", "GlobalAveragePool", "Conv"]  # which selects the output's channels


# Windows.


@pytest.mark.parametrize("place", ["quantised", "unquantised", "folded"])
def test_padding_on_two_sides_only_is_the_convolutions(tmp_path, place):
    """ZeroPad2d((0, 1, 0, 1)): the legacy exporter keeps a Pad, the dynamo one folds it."""
    window = {"strides": [2, 2]}
    pads = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    if place == "quantised":
        nodes = [quant("x", "xq"), ("Pad", ["xq", "pads", "z"], ["p"])]
    elif place == "unquantised":
        nodes = [("Pad", ["x", "pads", "z"], ["u"]), quant("u", "p")]
    else:
        nodes, window = [quant("x", "p")], {**window, "pads": [0, 0, 1, 1]}
    nodes += [quant("w", "wq", "ws"), ("Conv", ["p", "wq"], ["c"], window), quant("c", "y", "rs")]
    model = network(nodes, given(pads=pads), IMAGE)
    assert_through(tmp_path, model, quantised(conv2d(X, KEPT, stride=2, pads=(0, 0, 1, 1))))


NEAREST = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}
RESIZE = {
    "no region": (["m", "", "scales"], {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "empty region": (
        ["m", "roi", "scales"],
        {"scales": np.array([1, 1, 2, 2], np.float32), "roi": np.zeros(0, np.float32)},
    ),
    "sizes": (["m", "", "", "sizes"], {"sizes": np.array([1, 4, 12, 12])}),
}


@pytest.mark.parametrize("form", RESIZE)
def test_nearest_upsampling_is_read_right_and_copies_integers(tmp_path, form):
    """Resize with an empty region of interest; a convolution makes the copies."""
    inputs, more = RESIZE[form]
    model = net(("Resize", inputs, ["y"], NEAREST), **more)
    expected = MAP.repeat(2, axis=2).repeat(2, axis=3)
    assert_computes(tmp_path, model, expected, x=X)
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.outputs["y"], expected)
    assert got.rewrites("resize_nearest")


def test_everything_the_hardware_lacks_is_named_in_one_run(tmp_path):
    """A border of copies and two functions: three layers in one message."""
    nodes = [
        ("Pad", ["m", "pads"], ["r"], {"mode": "reflect"}),
        ("Floor", ["r"], ["e"], {}),
        ("Sign", ["e"], ["y"], {}),
    ]
    model = net(*nodes, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    large = np.pad(MAP, ((0, 0), (0, 0), (1, 1), (1, 1)), "reflect")
    assert_computes(tmp_path, model, np.sign(np.floor(large)), x=X)
    (error,) = refusals(tmp_path, model)
    assert (error.rule, error.location.layer) == ("DLA301", "pad_r")
    assert "no Pad, Floor, Sign" in error.message
    assert [note.split()[-1] for note in error.notes[-2:]] == ["'floor_e'", "'sign_y'"]


# Several inputs and outputs.


def test_several_inputs_and_outputs_keep_their_names_order_and_numbers(tmp_path):
    """Two images in; a sum, one of its operands and a classification out."""
    nodes = [
        quant("x", "xq"),
        quant("z", "zq", "rs", "n"),
        quant("w", "wq", "ws", "n"),
        ("Conv", ["xq", "wq"], ["c"]),
        quant("c", "left", "rs", "n"),
        ("Conv", ["zq", "wq"], ["d"]),
        quant("d", "right", "rs", "n"),
        ("Add", ["left", "right"], ["s_"]),
        quant("s_", "sum", "rs", "n"),
        ("GlobalAveragePool", ["sum"], ["p"]),
        quant("p", "class", "rs", "n"),
    ]
    nodes[0].input[2] = "n"
    constants = {name: array for name, array in given().items() if name != "z"}
    inputs = {"x": [1, 3, 8, 8], "z": [1, 3, 8, 8]}
    outputs = ("class", "right", "sum")
    model = network(nodes, constants | {"n": np.float32(0)}, inputs, outputs)
    z = grid(4, 3, 8, 8, step=RESULT, seed=11)
    right = quantised(conv2d(z, KEPT))
    total = quantised(MAP + right)
    mean = quantised(total.astype(np.float64).mean((2, 3), keepdims=True))
    assert_computes(tmp_path, model, mean, right, total, x=X, z=z)
    got = hardware(tmp_path, model, x=X, z=z)
    assert list(got.outputs) == list(outputs)
    for name, expected in zip(outputs, (mean, right, total), strict=True):
        assert np.array_equal(got.outputs[name], expected)
    assert [port["name"] for port in got.report["io"]["inputs"]] == ["x", "z"]


def test_an_output_that_others_read_is_stored_and_returned(tmp_path):
    """A map in the middle of the network may be an output as well."""
    nodes = [quant("v", "vq", "ws"), ("Conv", ["m", "vq"], ["d"]), quant("d", "y", "rs")]
    weights = random(4, 4, 1, 1, seed=2, spread=0.4)
    model = net(*nodes, v=weights, outputs=("m", "y"))
    expected = quantised(conv2d(MAP, int_quant(weights, WEIGHT, 0, 8)))
    assert_through(tmp_path, model, MAP, expected)


def test_standard_operators_are_those_of_onnxruntime(tmp_path):
    """What is no quantiser passes through the frontend as it is."""
    nodes = [
        ("LeakyRelu", ["m"], ["a"], {"alpha": 0.25}),
        ("Split", ["a"], ["b_", "e"], {"num_outputs": 2, "axis": 1}),
        ("Sub", ["b_", "e"], ["f"]),
        ("HardSigmoid", ["f"], ["g"]),
        ("Slice", ["g", "from", "to", "axis"], ["y"]),
    ]
    ends = {"from": np.array([1]), "to": np.array([5]), "axis": np.array([2])}
    model = net(*nodes, **ends)
    plain = network([("Identity", ["x"], ["m"]), *nodes], ends, {"x": [4, 4, 6, 6]}, domains=())
    (expected,) = onnxruntime_outputs(plain, x=MAP)
    assert_computes(tmp_path, model, expected, relative=1e-6, x=X)
