"""Fake quantisation as tfmot has it, and its wrappers."""

import math

import numpy as np
import pytest

from dlaconv.frontends.keras.dialects import tfmot
from dlaconv.ir import dialect
from tests.frontends.keras import reference
from tests.frontends.keras.files import L, findings, given, load, one_layer, outputs_of, save

RNG = np.random.default_rng(29)
CONV = "Default8BitConvQuantizeConfig"
PLAIN = "Default8BitQuantizeConfig"


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def fake(x, low, high, narrow=False):
    """TensorFlow's fake_quant_with_min_max_vars of 8 bits, step by step."""
    qmin = 1 if narrow else 0
    step = (high - low) / (255 - qmin)
    zero = min(max(np.floor(qmin - low / step + 0.5), qmin), 255)
    least, most = (qmin - zero) * step, (255 - zero) * step
    inside = np.clip(np.asarray(x, np.float64), least, most)
    return np.floor((inside - least) / step + 0.5) * step + least


def wrapper(kind, name, config, attributes=(), output=False, quantize=PLAIN, **weights):
    """A wrapper around a layer; weights of the layer are named kernel, bias..."""
    inner = {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}}
    given_config = {
        "layer": inner,
        "quantize_config": {
            "class_name": quantize,
            "config": {"weight_attrs": list(attributes), "quantize_output": output},
        },
    }
    module = "tensorflow_model_optimization.python.core"
    held = {key: np.float32(array) for key, array in weights.items()}
    return L("QuantizeWrapperV2", f"quant_{name}", ["x0"], given_config, held, module=module)


def aware(activation):
    return {"class_name": "QuantizeAwareActivation", "config": {"activation": activation}}


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "zero"),
    [(-1.0, 1.1, 121), (0.0, 6.0, 0), (-6.0, 0.0, 255), (-4.74287, 6.746677, 105), (-0.1, 10.0, 3)],
)
def test_ranges_are_moved_until_zero_is_an_integer(low, high, zero):
    grid = tfmot.map_grid(low, high)
    assert (grid.qmin, grid.qmax, float(grid.zero_point)) == (0, 255, zero)
    x = np.concatenate([values(300) * 6, [0.0]]).astype(np.float32)
    np.testing.assert_allclose(grid.reals(grid.integers(x)), fake(x, low, high), atol=1e-5)
    assert grid.reals(grid.integers(np.zeros(1, np.float32)))[0] == 0


def test_a_tie_of_the_zero_point_is_broken_as_in_single_precision():
    # 4 / (8 / 255) is a little less than 127.5 in single precision, as TensorFlow computes it
    assert np.float32(4) / (np.float32(8) / np.float32(255)) < 127.5
    assert float(tfmot.map_grid(-4.0, 4.0).zero_point) == 127


@pytest.mark.parametrize("ends", [(0.0, 0.0), (1.0, 2.0), (-2.0, -1.0), (np.nan, 1.0)])
def test_ranges_without_a_grid_are_refused(ends):
    with pytest.raises(tfmot.RangeError):
        tfmot.map_grid(*ends)


@pytest.mark.parametrize("axis", [-1, -2])
def test_weights_are_symmetric_and_without_the_lowest_integer(axis):
    x = values(3, 3, 4, 5)
    most = abs(x).max(tuple(a for a in range(4) if a != axis % 4)) * np.float32(0.75)
    found = tfmot.weights(x, -most, most, axis)
    assert (found.values.min(), found.values.max()) == (-127, 127)
    for channel in range(len(most)):
        own = np.take(found.reals, channel, axis)
        wanted = fake(np.take(x, channel, axis), -most[channel], most[channel], narrow=True)
        np.testing.assert_allclose(own, wanted, atol=1e-6)


def test_one_range_may_be_for_all_weights():
    x = values(6, 4)
    found = tfmot.weights(x, np.float32(-1.5), np.float32(1.5), -1)
    assert found.step.size == 1
    np.testing.assert_allclose(found.reals, fake(x, -1.5, 1.5, narrow=True), atol=1e-6)
    with pytest.raises(tfmot.RangeError):
        tfmot.weights(x, np.float32([-1, -1]), np.float32([1, 1]), -1)


def test_ties_go_up_below_zero_too(tmp_path):
    """``floor(x / step + 0.5)``: half to even would take every second one down."""
    ties = (np.arange(-8, 8, dtype=np.float32) + np.float32(0.5)) / 128
    wanted = np.floor(ties * 128 + 0.5) / 128
    most = np.float32(127 / 128)
    found = tfmot.weights(ties.reshape(4, 4), -most, most, -1)
    np.testing.assert_array_equal(found.reals.reshape(-1), wanted)
    grid = tfmot.map_grid(-1.0, 127 / 128)
    np.testing.assert_array_equal(grid.reals(grid.integers(ties)), wanted)


def test_the_input_is_quantised(tmp_path):
    x = values(4, 6)
    quantizer = {"class_name": "AllValuesQuantizer", "config": {"num_bits": 8, "per_axis": False}}
    weights = {"quantize_layer_min": np.float32(-1), "quantize_layer_max": np.float32(2)}
    layer = L("QuantizeLayer", "quantize_layer", ["x0"], {"quantizer": quantizer}, weights)
    found = one_layer(tmp_path, layer, x, ending=".h5", generation=2)
    close(found, fake(x, -1.0, 2.0))


@pytest.mark.parametrize(
    ("activation", "after"),
    [("relu", lambda x: np.maximum(x, 0)), ("linear", lambda x: x)],
)
def test_a_convolution_quantises_weights_and_activation(tmp_path, activation, after):
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 4), values(4)
    most = abs(kernel).max((0, 1, 2))
    layer = wrapper(
        "Conv2D",
        "c",
        {"filters": 4, "kernel_size": [3, 3], "activation": aware(activation)},
        ["kernel"],
        quantize=CONV,
        kernel=kernel,
        bias=bias,
        kernel_min=-most,
        kernel_max=most,
        post_activation_min=-2.0,
        post_activation_max=5.0,
    )
    rounded = np.stack([fake(kernel[..., c], -most[c], most[c], narrow=True) for c in range(4)], -1)
    inner = after(reference.convolution(x, rounded, (1, 1), (1, 1), "valid") + bias)
    found = one_layer(tmp_path, layer, x, ending=".h5", generation=2)
    assert found.shape == inner.shape
    assert abs(found - fake(inner, -2.0, 5.0)).max() <= 7 / 255 + 1e-5  # one unit, at a tie
    assert (abs(found - fake(inner, -2.0, 5.0)) > 1e-5).mean() < 0.01


def test_channels_of_a_transposed_kernel_are_on_another_axis(tmp_path):
    x, kernel = values(2, 4, 4, 3), values(2, 2, 5, 3) * np.float32([[1], [3], [9], [27], [81]])
    most = abs(kernel).max((0, 1, 3))
    nothing = aware({"class_name": "NoOpActivation", "config": {}})
    config = {"filters": 5, "kernel_size": [2, 2], "strides": [2, 2], "use_bias": False}
    scheme = "Default8BitConvTransposeQuantizeConfig"
    layer = wrapper("Conv2DTranspose", "c", config | {"activation": nothing}, ["kernel"])
    layer.config["quantize_config"]["class_name"] = scheme
    layer.weights = {"kernel": kernel, "kernel_min": -most, "kernel_max": most}
    rounded = [fake(kernel[:, :, c], -most[c], most[c], narrow=True) for c in range(5)]
    wanted = reference.transposed(x, np.stack(rounded, 2), (2, 2), (1, 1), [(8, 0), (8, 0)])
    found = one_layer(tmp_path, layer, x, ending=".h5", generation=2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def test_a_convolution_before_a_batch_norm_gives_real_values(tmp_path):
    x, kernel = values(2, 5, 5, 3), values(3, 3, 3, 4)
    most = abs(kernel).max((0, 1, 2))
    nothing = aware({"class_name": "NoOpActivation", "config": {}})
    layer = wrapper(
        "Conv2D",
        "c",
        {"filters": 4, "kernel_size": [3, 3], "use_bias": False, "activation": nothing},
        ["kernel"],
        quantize=CONV,
        kernel=kernel,
        kernel_min=-most,
        kernel_max=most,
    )
    layers = [given("x0", (5, 5, 3)), layer]
    path = save(tmp_path / "m.h5", layers, ["quant_c"], 2)
    model = load(path).model
    assert not any(dialect.is_quantize(node) for node in model.graph)
    [node] = [node for node in model.graph if dialect.is_dequantize(node)]
    np.testing.assert_allclose(dialect.step_of(node).reshape(-1), most / 127, rtol=1e-6)
    rounded = np.stack([fake(kernel[..., c], -most[c], most[c], narrow=True) for c in range(4)], -1)
    close(outputs_of(path, x0=x)[0], reference.convolution(x, rounded, (1, 1), (1, 1), "valid"))


def test_depthwise_and_dense_kernels_have_one_range(tmp_path):
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 1), values(3)
    layer = wrapper(
        "DepthwiseConv2D",
        "d",
        {"kernel_size": [3, 3], "padding": "same", "activation": aware("linear")},
        ["depthwise_kernel"],
        quantize=CONV,
        depthwise_kernel=kernel,
        bias=bias,
        depthwise_kernel_min=[-1.5],
        depthwise_kernel_max=[1.5],
    )
    rounded = fake(kernel, -1.5, 1.5, narrow=True)
    wanted = reference.depthwise(x, rounded, (1, 1), (1, 1), "same") + bias
    close(one_layer(tmp_path, layer, x, ending=".h5", generation=2), wanted)
    x, kernel = values(4, 6), values(6, 2)
    layer = wrapper(
        "Dense",
        "e",
        {"units": 2, "use_bias": False, "activation": aware("softmax")},
        ["kernel"],
        kernel=kernel,
        kernel_min=-2.0,
        kernel_max=2.0,
        pre_activation_min=-4.0,
        pre_activation_max=4.0,
    )
    inner = fake(x @ fake(kernel, -2.0, 2.0, narrow=True), -4.0, 4.0)
    wanted = np.exp(inner) / np.exp(inner).sum(-1, keepdims=True)
    close(one_layer(tmp_path, layer, x, ending=".h5", generation=2), wanted)


def test_other_layers_quantise_their_output_or_nothing(tmp_path):
    x = values(2, 4, 4, 3) * 3
    layer = wrapper("ReLU", "r", {"max_value": 6.0}, output=True, output_min=-1.0, output_max=5.9)
    found = one_layer(tmp_path, layer, x, ending=".h5", generation=2)
    close(found, fake(np.clip(x, 0, 6), -1.0, 5.9))
    layer = wrapper("MaxPooling2D", "p", {"pool_size": [2, 2]})
    found = one_layer(tmp_path, layer, x, ending=".h5", generation=2)
    close(found, reference.maximum(x, (2, 2), (2, 2), "valid"))
    layer = wrapper(
        "Activation",
        "a",
        {"activation": aware("tanh")},
        post_activation_min=-1.0,
        post_activation_max=1.0,
    )
    close(one_layer(tmp_path, layer, x, ending=".h5", generation=2), fake(np.tanh(x), -1.0, 1.0))


def test_a_wrapper_that_is_called_twice_shares_its_weights(tmp_path):
    kernel = values(3, 2)
    layer = wrapper(
        "Dense",
        "d",
        {"units": 2, "use_bias": False, "activation": aware("linear")},
        ["kernel"],
        kernel=kernel,
        kernel_min=-2.0,
        kernel_max=2.0,
    )
    layer.calls = [(["x0"], {}), (["x1"], {})]
    layers = [given("x0", (3,)), given("x1", (3,)), layer, L("Add", "s", [["quant_d", "quant_d"]])]
    model = load(save(tmp_path / "m.h5", layers, ["s"], 2)).model
    assert sum(dialect.is_dequantize(node) for node in model.graph) == 1


@pytest.mark.parametrize(
    ("layer", "rule", "why"),
    [
        (wrapper("ReLU", "r", {}, output=True), "DLA176", "output_min"),
        (
            wrapper("Dense", "d", {"units": 2}, ["kernel"], kernel=np.ones((3, 2))),
            "DLA176",
            "kernel_min",
        ),
        (wrapper("ReLU", "r", {}, quantize="MyConfig"), "DLA178", "'MyConfig'"),
        (wrapper("LSTM", "r", {}), "DLA178", "around LSTM"),
        (
            wrapper("ReLU", "r", {}, output=True, output_min=1.0, output_max=2.0),
            "DLA178",
            "a range from 1 to 2",
        ),
    ],
)
def test_what_is_missing_or_unknown_is_refused(tmp_path, layer, rule, why):
    path = save(tmp_path / "m.h5", [given("x0", (3,)), layer], [layer.name], 2)
    [(found, message)] = findings(path)
    assert found == rule
    assert why in message


def numbered(layer, first, trained, ranges, inner=()):
    """The variables of a wrapper as a .keras file numbers them."""
    held = [*first, *trained, np.int32(-1), *(np.float32(end) for pair in ranges for end in pair)]
    layer.weights = {f"vars/{n}": array for n, array in enumerate(held)}
    layer.weights |= {f"layer/vars/{n}": array for n, array in enumerate(inner)}
    return layer


def test_a_keras_file_numbers_the_same_variables(tmp_path):
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 4), values(4)
    most = abs(kernel).max((0, 1, 2))
    rounded = np.stack([fake(kernel[..., c], -most[c], most[c], narrow=True) for c in range(4)], -1)
    sums = reference.convolution(x, rounded, (1, 1), (1, 1), "valid") + bias
    config = {"filters": 4, "kernel_size": [3, 3], "activation": aware("linear")}
    layer = wrapper("Conv2D", "c", config, ["kernel"], quantize=CONV)
    ends = [(-most, most), (-4.0, 4.2)]
    numbered(layer, [kernel], [bias, kernel], ends, [bias])
    found = one_layer(tmp_path, layer, x, generation=2)
    assert abs(found - fake(sums, -4.0, 4.2)).max() <= 8.2 / 255 + 1e-5
    assert (abs(found - fake(sums, -4.0, 4.2)) > 1e-5).mean() < 0.01
    nothing = aware({"class_name": "NoOpActivation", "config": {}})
    layer = wrapper("Conv2D", "c", config | {"activation": nothing}, ["kernel"], quantize=CONV)
    numbered(layer, [kernel], [bias, kernel], ends[:1], [bias])
    close(one_layer(tmp_path, layer, x, generation=2), sums)


def test_layers_without_quantised_weights_keep_their_variables_inside(tmp_path):
    x = values(2, 3, 3, 2)
    held = np.float32([[1.5, 0.5], [0.1, -0.2], [0.3, 0.4], [0.9, 1.1]])
    layer = wrapper("BatchNormalization", "b", {"epsilon": 1e-3}, quantize="NoOpQuantizeConfig")
    numbered(layer, [], held[:2], [], held)
    wanted = (x - held[2]) / np.sqrt(held[3] + 1e-3) * held[0] + held[1]
    close(one_layer(tmp_path, layer, x, generation=2), wanted)
    layer = numbered(wrapper("ReLU", "r", {}, output=True), [], [], [(-1.0, 2.0)])
    close(one_layer(tmp_path, layer, x, generation=2), fake(np.maximum(x, 0), -1.0, 2.0))


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("softmax", lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
    ],
)
def test_what_has_a_range_of_its_own_is_quantised_before_it_runs(tmp_path, function, wanted):
    x, kernel = values(4, 6), values(6, 2)
    config = {"units": 2, "use_bias": False, "activation": aware(function)}
    layer = wrapper("Dense", "e", config, ["kernel"])
    numbered(layer, [kernel], [kernel], [(-2.0, 2.0), (-4.0, 4.2)])
    inner = fake(x @ fake(kernel, -2.0, 2.0, narrow=True), -4.0, 4.2)
    close(one_layer(tmp_path, layer, x, generation=2), wanted(inner))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("relu", lambda x: fake(np.maximum(x, 0), -1.0, 2.1)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("linear", lambda x: x),
    ],
)
def test_an_activation_alone_says_whether_its_output_is_quantised(
    tmp_path, ending, function, wanted
):
    x = values(4, 6)
    scheme = "Default8BitActivationQuantizeConfig"
    layer = wrapper("Activation", "a", {"activation": function}, output=True, quantize=scheme)
    ends = [(-1.0, 2.1)] if function == "relu" else []
    if ending == ".keras":
        numbered(layer, [], [], ends)
    else:
        held = {"output_min": np.float32(-1.0), "output_max": np.float32(2.1)}
        layer.weights = held if ends else {}
    close(one_layer(tmp_path, layer, x, ending=ending, generation=2), wanted(x))


def test_a_gelu_is_quantised_on_both_sides(tmp_path):
    x, kernel = values(4, 6), values(6, 2)
    config = {"units": 2, "use_bias": False, "activation": aware("gelu")}
    layer = wrapper("Dense", "e", config, ["kernel"])
    numbered(layer, [kernel], [kernel], [(-2.0, 2.0), (-4.0, 4.2), (-1.0, 2.1)])
    inner = fake(x @ fake(kernel, -2.0, 2.0, narrow=True), -4.0, 4.2)
    erf = np.vectorize(math.erf)
    outer = fake(inner / 2 * (1 + erf(inner / np.sqrt(2))), -1.0, 2.1)
    close(one_layer(tmp_path, layer, x, generation=2), outer)


def test_the_input_has_its_range_first(tmp_path):
    x = values(4, 6)
    quantizer = {"class_name": "AllValuesQuantizer", "config": {"num_bits": 8, "per_axis": False}}
    weights = {"vars/0": np.float32(-1), "vars/1": np.float32(2), "vars/2": np.int32(-1)}
    layer = L("QuantizeLayer", "quantize_layer", ["x0"], {"quantizer": quantizer}, weights)
    close(one_layer(tmp_path, layer, x, generation=2), fake(x, -1.0, 2.0))


@pytest.mark.parametrize(
    ("first", "ranges", "why"),
    [
        ([np.int32(3)], [(-1.0, 1.0)], "2 step counters"),
        ([], [(-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0)], "of no known use"),
        ([], [], "of no known use"),
    ],
)
def test_numbers_that_do_not_add_up_are_refused(tmp_path, first, ranges, why):
    layer = numbered(wrapper("ReLU", "r", {}, output=True), first, [], ranges)
    path = save(tmp_path / "m.keras", [given("x0", (3,)), layer], [layer.name], 2)
    [(rule, message)] = findings(path)
    assert (rule, why in message) == ("DLA108", True)
