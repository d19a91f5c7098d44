"""Networks of Keras: what the order of axes, padding, folding and quantisers of theirs lead to.

The files are made as Keras makes them; sums are computed channels-last, window by window.
"""

from itertools import pairwise

import numpy as np
import onnx
import pytest

import dlaconv
from dlaconv.errors import UserError
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from dlaconv.options import Options
from tests.frontends.keras import reference
from tests.frontends.keras.files import L, given, save
from tests.traps import support

RNG = np.random.default_rng(41)
FIXED = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 0, "alpha": 1.0}}
X = (RNG.integers(-128, 128, (4, 8, 8, 16)) / 32).astype(np.float32)
"""Values on the grid of quantized_bits(8, 2)."""


def values(*shape, size=0.1):
    return (RNG.standard_normal(shape) * size).astype(np.float32)


def fixed(kernel):
    return np.clip(np.rint(kernel * 128), -128, 127) / 128


def quantiser(name, call):
    return L("QActivation", name, config={"activation": call}, module="qkeras.qlayers")


def conv(name, kernel, bias=None, quantised=False, **config):
    held = {"kernel": kernel} | ({} if bias is None else {"bias": bias})
    size = {"filters": kernel.shape[-1], "kernel_size": list(kernel.shape[:2])}
    config = size | {"padding": "same", "use_bias": bias is not None} | config
    if not quantised:
        return L("Conv2D", name, config=config, weights=held)
    config |= {"kernel_quantizer": FIXED, "bias_quantizer": None}
    return L("QConv2D", name, config=config, weights=held, module="qkeras.qlayers")


def dense(name, kernel, quantised=False):
    config = {"units": kernel.shape[1], "use_bias": False}
    if not quantised:
        return L("Dense", name, config=config, weights={"kernel": kernel})
    config |= {"kernel_quantizer": FIXED, "bias_quantizer": None}
    return L("QDense", name, config=config, weights={"kernel": kernel}, module="qkeras.qlayers")


def batch_norm(name, gamma, beta, variance):
    held = {"gamma": gamma, "beta": beta, "moving_mean": np.zeros_like(gamma)}
    return L("BatchNormalization", name, weights=held | {"moving_variance": variance})


def chain(tmp_path, *layers, ending=".keras", generation=3):
    """A file of layers behind one another; those that say what they read are left alone."""
    layers = [given("x", X.shape[1:]), *layers]
    for before, layer in pairwise(layers):
        layer.reads = layer.reads or [before.name]
    return save(tmp_path / f"net{ending}", layers, [layers[-1].name], generation)


def assert_computes(path, wanted, x=X, relative=1e-5):
    """The file as read and in canonical form computes what it should."""
    model = dlaconv.load(path, "keras").model
    before = support.outputs_of(model, {"x": x})
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(model, Context(Target.load()))
    for found in before + support.outputs_of(model, {"x": x}):
        assert found.shape == wanted.shape
        assert abs(found - wanted).max() <= relative * abs(wanted).max()


def converted(path, x=X, calibrate=False):
    """A conversion whose integers were proved, and the operators in order, none at the border."""
    inputs, target = path.parent / "x.npz", path.parent / "net.dla.onnx"
    np.savez(inputs, x=x)
    options = Options(allow_violations=True, calibrate=inputs if calibrate else None)
    found = dlaconv.convert(path, target, frontend="keras", options=options)
    assert found.report["verification"]["passed"]
    nodes = list(onnx.load(target).graph.node)
    kinds = [node.op_type for node in nodes]
    if kinds[0] == "Transpose":
        del nodes[0], kinds[0]
    if kinds[-1] == "Transpose":
        del nodes[-1], kinds[-1]
    return support.Hardware(found, {}, {}), nodes, kinds


def rounded(x, integer, low=-128, high=127, bits=8):
    """quantized_bits with a sign."""
    step = 2.0 ** (integer - bits + 1)
    return np.clip(np.rint(x / step), low, high) * step


def test_eight_unsigned_bits_lose_one_by_default_and_the_report_says_so(tmp_path):
    """Keeping the unit and saturating at 127 was worse on four models; see docs/keras.md."""
    path = chain(
        tmp_path,
        quantiser("a", "quantized_bits(8,2,alpha=1)"),
        conv("c", values(3, 3, 16, 16), quantised=True),
        quantiser("r", "quantized_relu(8,1)"),
        conv("d", values(3, 3, 16, 16), quantised=True),
        quantiser("s", "quantized_bits(8,3,alpha=1)"),
    )
    found, _, _ = converted(path)
    [row] = [r for r in found.report["tensors"] if r["layer"] == "r"]
    assert (row["class"], row["note"]) == ("rescaled", "8-bit integers in units of 2")
    assert (row["source"]["step"], row["target"]["real_step"]) == (2.0**-7, 2.0**-6)
    assert found.classes("weight") == {"c/conv/weights": "exact", "d/conv/weights": "exact"}


@pytest.mark.parametrize(("size", "emitted"), [(3, 4), (5, 6)])
def test_same_padding_of_even_maps_becomes_symmetric(tmp_path, size, emitted):
    kernel = fixed(values(size, size, 16, 16))
    path = chain(
        tmp_path,
        quantiser("a", "quantized_bits(8,2,alpha=1)"),
        conv("c", kernel, quantised=True, strides=[2, 2]),
        quantiser("s", "quantized_bits(8,3,alpha=1)"),
    )
    inner = reference.convolution(X, kernel, (2, 2), (1, 1), "same")
    assert_computes(path, rounded(inner, 3), relative=0)
    found, [node], _ = converted(path)
    attributes = {a.name: list(a.ints) for a in node.attribute}
    assert attributes["kernel_shape"] == [emitted, emitted]
    assert len(set(attributes["pads"])) == 1
    assert "CV-5" not in found.warned
    assert found.classes() == {"x/quantised": "exact", "s/layout_0_3_1_2": "exact"}


def test_a_kernel_of_seven_has_no_room_for_the_eighth_row(tmp_path):
    path = chain(tmp_path, conv("c", values(7, 7, 16, 16), strides=[2, 2]))
    found, [node], _ = converted(path, calibrate=True)
    attributes = {a.name: list(a.ints) for a in node.attribute}
    assert (attributes["kernel_shape"], attributes["pads"]) == ([7, 7], [2, 2, 3, 3])
    assert "CV-5" in found.warned


def test_zero_padding_at_one_end_is_that_of_the_next_convolution(tmp_path):
    kernel = values(3, 3, 16, 16)
    padding = L("ZeroPadding2D", "z", config={"padding": [[0, 1], [0, 1]]})
    path = chain(tmp_path, padding, conv("c", kernel, padding="valid", strides=[2, 2]))
    assert_computes(path, reference.convolution(X, kernel, (2, 2), (1, 1), "same"))
    _, [node], _ = converted(path, calibrate=True)
    assert node.op_type == "Conv"


@pytest.mark.parametrize("signed", [True, False])
def test_zero_padding_goes_into_a_max_pool_only_if_nothing_is_below_zero(tmp_path, signed):
    x = -abs(X) if signed else X
    path = chain(
        tmp_path,
        quantiser("a", "quantized_bits(8,2,alpha=1)" if signed else "quantized_relu(7,2)"),
        L("ZeroPadding2D", "z", config={"padding": [[0, 1], [0, 1]]}),
        L("MaxPooling2D", "p", config={"pool_size": [3, 3], "strides": [2, 2]}),
    )
    held = np.clip(np.rint(x * 32), -128 if signed else 0, 127) / 32
    wanted = np.pad(held, [(0, 0), (0, 1), (0, 1), (0, 0)])
    wanted = reference.maximum(wanted, (3, 3), (2, 2), "valid")
    assert (not wanted[:, -1].any() and (wanted[:, 0, 0] < 0).any()) or not signed
    assert_computes(path, wanted, x, relative=0)
    _, _, kinds = converted(path, x)
    assert kinds == (["Conv", "MaxPool"] if signed else ["MaxPool"])


def test_a_flattened_map_keeps_its_rows_through_layers_without_weights(tmp_path):
    kernel, last = fixed(values(3, 3, 16, 16)), fixed(values(1024, 16))
    path = chain(
        tmp_path,
        quantiser("a", "quantized_bits(8,2,alpha=1)"),
        conv("c", kernel, quantised=True),
        L("Flatten", "f"),
        L("Dropout", "o", config={"rate": 0.5}),
        quantiser("r", "quantized_relu(7,1)"),
        dense("d", last, quantised=True),
        quantiser("s", "quantized_bits(8,4,alpha=1)"),
    )
    inner = reference.convolution(X, kernel, (1, 1), (1, 1), "same").reshape(4, -1)
    inner = np.clip(np.rint(inner * 64), 0, 127) / 64
    assert_computes(path, rounded(inner @ last, 4), relative=0)
    found, _, kinds = converted(path)
    assert "Transpose" not in kinds
    assert set(found.classes().values()) == {"exact"}


def test_a_map_of_one_pixel_is_flattened_as_it_is(tmp_path):
    kernel, last = values(3, 3, 16, 16), values(16, 16)
    path = chain(
        tmp_path,
        conv("c", kernel),
        L("GlobalAveragePooling2D", "g", config={"keepdims": True}),
        L("Flatten", "f"),
        dense("d", last),
    )
    inner = reference.convolution(X, kernel, (1, 1), (1, 1), "same").mean((1, 2))
    assert_computes(path, inner @ last)
    _, nodes, kinds = converted(path, calibrate=True)
    assert "Transpose" not in kinds
    held = dict(constants(path.parent / "net.dla.onnx"))[nodes[-1].input[1]]
    assert held.shape == (16, 16)
    order = np.corrcoef(held, last.T)[:16, 16:]  # rounded, not moved
    assert (order.argmax(1) == np.arange(16)).all()


def between(kind):
    """What stands between a Flatten and a Dense, and what it makes of 256 columns."""
    if kind == "BatchNormalization":
        gamma, beta, variance = values(256, size=1), values(256), abs(values(256)) + 0.5
        layers = [batch_norm("b", gamma, beta, variance)]
        return layers, 256, lambda x: x / np.sqrt(variance + 1e-3) * gamma + beta
    if kind == "Concatenate":
        layers = [L("GlobalAveragePooling2D", "g", ["c"]), L("Concatenate", "k", [["f", "g"]])]
        return layers, 272, lambda x: np.concatenate([x, x.reshape(4, 16, 16).mean(1)], 1)
    layers = [L("Reshape", "r", config={"target_shape": [8, 8, 4]}), L("Permute", "p")]
    layers[1].config = {"dims": [2, 1, 3]}
    layers.append(L("Flatten", "g"))
    return layers, 256, lambda x: x.reshape(4, 8, 8, 4).transpose(0, 2, 1, 3).reshape(4, 256)


@pytest.mark.parametrize("kind", ["BatchNormalization", "Concatenate", "Reshape"])
def test_what_counts_the_columns_of_a_flattened_map_finds_them_in_keras_order(tmp_path, kind):
    kernel = values(3, 3, 16, 16)
    layers, columns, function = between(kind)
    last = values(columns, 16)
    first = conv("c", kernel, strides=[2, 2])
    path = chain(tmp_path, first, L("Flatten", "f"), *layers, dense("d", last))
    flat = reference.convolution(X, kernel, (2, 2), (1, 1), "same").reshape(4, -1)
    assert_computes(path, function(flat) @ last, relative=1e-4)
    converted(path, calibrate=True)


def test_a_dead_channel_of_a_batch_norm_keeps_its_bias_of_16_bits(tmp_path):
    """A step as fine as the weights of the channel would make a bias of 2 overflow 31 bits."""
    kernel, beta, variance = values(3, 3, 16, 16), values(16), np.ones(16, np.float32)
    kernel[..., 3] *= 1e-6
    beta[3], variance[3] = 2.0, 1e-8
    path = chain(
        tmp_path,
        conv("c", kernel),
        batch_norm("b", np.ones(16, np.float32), beta, variance),
        L("ReLU", "r"),
        conv("d", values(3, 3, 16, 16)),
    )
    found, nodes, _ = converted(path, calibrate=True)
    steps = np.float64(found.row("c/conv/weights")["target"]["steps"])
    assert 2.0 / (steps[3] * found.row("c/conv/bias")["target"]["step_in"]) < 32768
    assert steps[3] < 100 * np.delete(steps, 3).min()
    assert min(found.report["summary"]["qsnr_db"].values()) > 25
    assert nodes[0].op_type == "Conv"


def preparing(kind):
    """A layer that prepares pixels, and what it computes."""
    if kind == "Normalization":
        mean, variance = RNG.uniform(90, 140, 16), RNG.uniform(2e3, 4e3, 16)
        config = {"axis": [-1], "mean": mean.tolist(), "variance": variance.tolist()}
        layer = L("Normalization", "p", config=config)
        return layer, lambda x: (x - mean) / np.sqrt(variance)
    offset = 0.0 if kind == "Rescaling without offset" else -1.0
    layer = L("Rescaling", "p", config={"scale": 1 / 127.5, "offset": offset})
    return layer, lambda x: x / 127.5 + offset


@pytest.mark.parametrize("kind", ["Rescaling", "Rescaling without offset", "Normalization"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pixels_are_prepared_in_the_first_layer_unless_padding_would_see_it(
    tmp_path, kind, padding
):
    """A zero behind the offset is no pixel of zero, so padding may not be prepared with it."""
    x, kernel = RNG.integers(0, 256, X.shape).astype(np.float32), values(3, 3, 16, 16)
    layer, function = preparing(kind)
    path = chain(tmp_path, layer, conv("c", kernel, padding=padding))
    wanted = reference.convolution(function(x.astype(np.float64)), kernel, (1, 1), (1, 1), padding)
    assert_computes(path, wanted, x)
    _, nodes, _ = converted(path, x, calibrate=True)
    folded = padding == "valid" or kind == "Rescaling without offset"
    assert [node.op_type for node in nodes] == ["Conv"] * (1 if folded else 2)


def test_a_softmax_at_the_end_is_the_hosts(tmp_path):
    path = chain(
        tmp_path,
        conv("c", values(3, 3, 16, 16)),
        L("GlobalAveragePooling2D", "g"),
        dense("d", values(16, 16, size=1)),
        L("Softmax", "s"),
    )
    found, _, kinds = converted(path, calibrate=True)
    assert "Softmax" not in kinds
    [row] = [row for row in found.report["host"] if row["op"] == "Softmax"]
    assert row["layer"] == "s"
    assert found.report["parts"][-1]["outputs"] == ["s"]


@pytest.mark.parametrize(("span", "kept"), [(6, True), (7, False)])
def test_powers_of_two_are_integers_if_they_are_not_too_far_apart(tmp_path, span, kept):
    """128 units are one too many for 8 bits; the source's integers would take more."""
    exponents = RNG.integers(-8, -7 + span, (3, 3, 16, 16))
    exponents[0, 0], exponents[0, 1] = -8, -8 + span
    kernel = (np.exp2(exponents) * RNG.choice([-1, 1], exponents.shape)).astype(np.float32)
    layer = conv("c", kernel, quantised=True)
    layer.config["kernel_quantizer"] = {"class_name": "quantized_po2", "config": {"bits": 5}}
    path = chain(
        tmp_path,
        quantiser("a", "quantized_bits(8,2,alpha=1)"),
        layer,
        quantiser("s", "quantized_bits(8,5,alpha=1)"),
    )
    inner = reference.convolution(X, kernel, (1, 1), (1, 1), "same")
    assert_computes(path, rounded(inner, 5), relative=0)
    found, _, _ = converted(path)
    assert found.classes("weight") == {"c/conv/weights": "exact" if kept else "requantised"}


def test_a_relu6_is_the_saturation_of_its_map(tmp_path):
    path = chain(
        tmp_path,
        conv("c", values(3, 3, 16, 16, size=1)),
        L("ReLU", "r", config={"max_value": 6.0}),
        conv("d", values(3, 3, 16, 16)),
    )
    found, _, kinds = converted(path, calibrate=True)
    assert kinds == ["Conv", "Relu", "Conv"]
    [row] = [r for r in found.report["tensors"] if r["layer"] == "r"]
    assert row["target"]["real_step"] * 127 == pytest.approx(6, abs=row["target"]["real_step"] / 2)


def test_weights_of_tfmot_keep_their_integers_through_a_batch_norm(tmp_path):
    """It is folded behind their rounding: steps take its factors, signs those of a negative one.

    The map's zero point is no obstacle: the hardware has none, and the map another step.
    """
    kernel = values(3, 3, 16, 16)
    most = abs(kernel).max((0, 1, 2))
    ends = {"q_min": np.float32(-3.1), "q_max": np.float32(4.2)}
    nothing = {"class_name": "NoOpActivation", "config": {}}
    inner = {
        "name": "c", "filters": 16, "kernel_size": [3, 3], "padding": "same", "use_bias": False,
        "activation": {"class_name": "QuantizeAwareActivation", "config": {"activation": nothing}},
    }  # fmt: skip
    scheme = {"weight_attrs": ["kernel"], "quantize_output": False}
    wrapper = {
        "layer": {"class_name": "Conv2D", "config": inner},
        "quantize_config": {"class_name": "Default8BitConvQuantizeConfig", "config": scheme},
    }
    held = {"kernel": kernel, "kernel_min": -most, "kernel_max": most}
    eight = {"class_name": "MovingAverageQuantizer", "config": {"num_bits": 8}}
    gamma = np.where(np.arange(16) % 2, -1.5, 0.5).astype(np.float32)
    path = chain(
        tmp_path,
        L("QuantizeLayer", "q", config={"quantizer": eight}, weights=ends),
        L("QuantizeWrapperV2", "quant_c", config=wrapper, weights=held, module=""),
        batch_norm("b", gamma, values(16), np.ones(16, np.float32)),
        ending=".h5",
        generation=2,
    )
    found, [node], _ = converted(path, calibrate=True)
    assert found.report["summary"]["weights"] == {"kept": 1, "requantised": 0, "derived": 0}
    integers = np.rint(kernel / (most / 127)) * np.sign(gamma)
    emitted = dict(constants(path.parent / "net.dla.onnx"))[node.input[1]]
    steps = np.float64(found.row("quant_c/conv/weights")["target"]["steps"])
    np.testing.assert_array_equal(
        np.rint(emitted / steps[:, None, None, None]), integers.transpose(3, 2, 0, 1)
    )
    [row] = [r for r in found.report["tensors"] if r["layer"] == "q"]
    assert (row["class"], row["source"]["zero_point"]) == ("rescaled", 108)  # 3.1 / 7.3 * 255


def constants(path):
    """Names and real values of what an emitted file holds."""
    for item in onnx.load(path).graph.initializer:
        yield item.name, onnx.numpy_helper.to_array(item)


def test_maps_of_keras_own_quantisation_need_data(tmp_path):
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}
    kernel = RNG.integers(-127, 128, (1024, 16)).astype(np.int8)
    layer = dense("d", kernel)
    layer.config["dtype"] = policy
    layer.weights["kernel_scale"] = np.full(16, 500, np.float32)
    path = chain(tmp_path, conv("c", values(3, 3, 16, 16)), L("Flatten", "f"), layer)
    with pytest.raises(UserError) as caught:
        converted(path)
    assert any("--calibrate" in item.help for item in caught.value.diagnostics)
    found, _, _ = converted(path, calibrate=True)
    assert found.report["summary"]["weights"] == {"kept": 1, "requantised": 0, "derived": 1}
