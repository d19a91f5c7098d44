"""Layers against what Caffe computes, worked out with NumPy."""

import numpy as np
import pytest

from tests.frontends.caffe.files import (
    close,
    computed,
    error,
    layer,
    load,
    numbers,
    output,
    run,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


X = numbers(2, 6, 5, 4)
UNARY = {
    ("ReLU", ""): np.maximum(X, 0),
    ("ReLU", "relu_param { negative_slope: 0.1 }"): np.where(X > 0, X, X * 0.1),
    ("ReLU6", ""): X.clip(0, 6),
    ("ReLU6", "relu6_param { threshold: 0.5 }"): X.clip(0, 0.5),
    ("ReLU6", "relu6_param { negative_slope: 0.5 threshold: 1 }"): np.minimum(
        np.where(X > 0, X, X / 2), 1
    ),
    ("HardSigmoid", ""): (0.2 * X + 0.5).clip(0, 1),
    ("HardSigmoid", "hardsigmoid_param { alpha: 0.5 beta: 0.25 }"): (X / 2 + 0.25).clip(0, 1),
    ("Clip", "clip_param { min: -0.5 max: 0.25 }"): X.clip(-0.5, 0.25),
    ("ELU", "elu_param { alpha: 0.5 }"): np.where(X > 0, X, 0.5 * np.expm1(X)),
    ("Sigmoid", ""): sigmoid(X),
    ("TanH", ""): np.tanh(X),
    ("AbsVal", ""): abs(X),
    ("BNLL", ""): np.log1p(np.exp(X)),
    ("HardSwish", ""): X * (X + 3).clip(0, 6) / 6,
    ("Swish", "swish_param { beta: 1.5 }"): X * sigmoid(1.5 * X),
    ("Swish", ""): X * sigmoid(X),
    ("Threshold", "threshold_param { threshold: 0.5 }"): (X > 0.5).astype(np.float32),
    ("Power", "power_param { power: 2 scale: 3 shift: -1 }"): (3 * X - 1) ** 2,
    ("Power", "power_param { scale: -1 }"): -X,
    ("Power", ""): X,
    ("Exp", ""): np.exp(X),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.1 }"): 2 ** (0.1 + 0.5 * X),
    ("Softmax", ""): np.exp(X) / np.exp(X).sum(1, keepdims=True),
    ("Softmax", "softmax_param { axis: -1 }"): np.exp(X) / np.exp(X).sum(-1, keepdims=True),
    ("Dropout", "dropout_param { dropout_ratio: 0.7 }"): X,
    ("Flatten", ""): X.reshape(2, 120),
    ("Flatten", "flatten_param { axis: 2 }"): X.reshape(2, 6, 20),
    ("Flatten", "flatten_param { axis: -3 end_axis: -2 }"): X.reshape(2, 30, 4),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 3 dim: -1 } }"): X.reshape(2, 3, 40),
    ("Reshape", "reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }"): X.reshape(2, 30, 4),
    ("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }"): X[..., None],
    ("Reshape", "reshape_param { shape { } axis: 1 num_axes: 0 }"): X,
    ("Unsqueeze", "unsqueeze_param { dim: 1 }"): X[:, None],
    ("Unsqueeze", "unsqueeze_param { dim: -1 }"): X[..., None],
    ("Pad", "pad_param { pad_u: 1 pad_r: 2 pad_value: 0.5 }"): np.pad(
        X, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=0.5
    ),
    ("Pad", "pad_param { pad_type: REPLICATE pad_l: 2 pad_d: 1 }"): np.pad(
        X, ((0, 0), (0, 0), (0, 1), (2, 0)), mode="edge"
    ),
    ("Pad", "pad_param { pad_type: REFLECT pad_u: 2 pad_d: 1 pad_l: 3 }"): np.pad(
        X, ((0, 0), (0, 0), (2, 1), (3, 0)), mode="reflect"
    ),
    ("Pad", "pad_param { pad_u: -1 pad_d: -2 pad_l: -1 pad_r: -1 }"): X[:, :, 1:-2, 1:-1],
    ("Permute", "permute_param { order: 0 order: 2 }"): X.transpose(0, 2, 1, 3),
    ("Tile", "tile_param { axis: -2 tiles: 3 }"): np.tile(X, (1, 1, 3, 1)),
    ("Reduction", "reduction_param { axis: 2 operation: MEAN coeff: 3 }"): 3 * X.mean((2, 3)),
    ("Reduction", "reduction_param { operation: ASUM }"): abs(X).sum(),
    ("Reduction", "reduction_param { axis: 1 operation: SUMSQ }"): (X**2).sum((1, 2, 3)),
    ("Reduction", "reduction_param { axis: -1 }"): X.sum(3),
    ("ArgMax", ""): X.reshape(2, -1).argmax(1).reshape(2, 1, 1, 1),
    ("ArgMax", "argmax_param { axis: 1 }"): X.argmax(1)[:, None],
    ("ArgMax", "argmax_param { axis: 2 out_max_val: true }"): X.max(2, keepdims=True),
    ("ShuffleChannel", "shuffle_channel_param { group: 3 }"): (
        X.reshape(2, 3, 2, 5, 4).transpose(0, 2, 1, 3, 4).reshape(X.shape)
    ),
    ("Upsample", "upsample_param { scale: 3 }"): X.repeat(3, 2).repeat(3, 3),
    ("MVN", "mvn_param { normalize_variance: false }"): X - X.mean((2, 3), keepdims=True),
    ("MVN", "mvn_param { across_channels: true eps: 0.5 }"): (
        (X - X.mean((1, 2, 3), keepdims=True)) / (X.std((1, 2, 3), keepdims=True) + 0.5)
    ),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }"): (
        (X - X.mean((0, 2, 3), keepdims=True))
        / np.sqrt(X.var((0, 2, 3), keepdims=True) + 1e-5)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "parameters"), UNARY, ids=range(len(UNARY)))
def test_a_layer_without_weights(tmp_path, kind, parameters):
    wanted = UNARY[kind, parameters]
    close(computed(tmp_path, X, kind, parameters), np.asarray(wanted, np.float32))


def test_a_logarithm_has_its_base(tmp_path):
    x = abs(X) + 0.1
    close(computed(tmp_path, x, "Log"), np.log(x))
    parameters = "log_param { base: 10 scale: 2 shift: 1 }"
    close(computed(tmp_path, x, "Log", parameters), np.log10(2 * x + 1))


@pytest.mark.parametrize("total", [1.0, 4.0, 0.0])
def test_batch_norm_divides_its_statistics_by_their_weight(tmp_path, total):
    mean, variance = numbers(6, seed=1), abs(numbers(6, seed=2))
    parameters = "batch_norm_param { eps: 0.01 }"
    found = computed(tmp_path, X, "BatchNorm", parameters, [mean, variance, [total]])
    factor = 1 / total if total else 0
    centred = X - (mean * factor)[:, None, None]
    close(found, centred / np.sqrt(variance * factor + 0.01)[:, None, None])


@pytest.mark.parametrize(
    ("parameters", "shape", "place"),
    [
        ("", (6,), (6, 1, 1)),
        ("axis: 0 num_axes: 2", (2, 6), (2, 6, 1, 1)),
        ("axis: -1", (4,), (4,)),
        ("axis: 1 num_axes: -1", (6, 5, 4), (6, 5, 4)),
        ("num_axes: 0", (), ()),
    ],
)
def test_scale_and_bias_lie_along_their_axes(tmp_path, parameters, shape, place):
    factor, summand = numbers(*shape, seed=1), numbers(*shape, seed=2)
    text = f"scale_param {{ bias_term: true {parameters} }}"
    found = computed(tmp_path, X, "Scale", text, [factor, summand])
    close(found, X * factor.reshape(place) + summand.reshape(place))
    found = computed(tmp_path, X, "Bias", f"bias_param {{ {parameters} }}", [summand])
    close(found, X + summand.reshape(place))


def test_a_second_bottom_scales_from_an_axis_on(tmp_path):
    second = "layer { name: 'gate' type: 'Input' top: 'g' input_param { shape { dim: 2 dim: 6 } } }"
    gate = numbers(2, 6, seed=1)
    for kind, wanted in (
        ("Scale", X * gate[:, :, None, None]),
        ("Bias", X + gate[:, :, None, None]),
    ):
        text = second + layer(kind, f"{kind.lower()}_param {{ axis: 0 }}", ("data", "g"))
        close(output(load(tmp_path, text, shape=X.shape), data=X, g=gate), wanted)


def test_prelu_has_a_slope_per_channel_also_where_the_width_is_the_same(tmp_path):
    x, slope = numbers(1, 4, 4, 4), numbers(4, seed=1)
    close(computed(tmp_path, x, "PReLU", "", [slope]), np.where(x > 0, x, x * slope[:, None, None]))
    shared = computed(tmp_path, x, "PReLU", "prelu_param { channel_shared: true }", [np.array(0.3)])
    close(shared, np.where(x > 0, x, x * np.float32(0.3)))


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ("", lambda a, b, c: a + b + c),
        ("operation: SUM coeff: 2 coeff: -1 coeff: 0.5", lambda a, b, c: 2 * a - b + 0.5 * c),
        ("operation: PROD", lambda a, b, c: a * b * c),
        ("operation: MAX", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    ],
)
def test_eltwise_takes_any_number_of_bottoms(tmp_path, parameters, wanted):
    shape = "input_param { shape { dim: 2 dim: 6 dim: 5 dim: 4 } }"
    text = f"layer {{ name: 'i' type: 'Input' top: 'b' top: 'c' {shape} }}\n"
    text += layer("Eltwise", f"eltwise_param {{ {parameters} }}", ("data", "b", "c"))
    b, c = numbers(*X.shape, seed=1), numbers(*X.shape, seed=2)
    found = output(load(tmp_path, text, shape=X.shape), data=X, b=b, c=c)
    close(found, wanted(X, b, c))


@pytest.mark.parametrize("parameters", ["axis: 2", "axis: -2", "concat_dim: 2"])
def test_concat_knows_the_old_name_of_its_axis(tmp_path, parameters):
    text = layer("Concat", f"concat_param {{ {parameters} }}", ("data", "data"))
    found = output(load(tmp_path, text, shape=X.shape), data=X)
    close(found, np.concatenate([X, X], 2))


@pytest.mark.parametrize(
    ("parameters", "edges", "axis"),
    [
        ("", (2, 4), 1),
        ("slice_point: 1 slice_point: 5", (1, 5), 1),
        ("axis: 2 slice_point: 1 slice_point: 2", (1, 2), 2),
        ("slice_dim: 2 slice_point: 1 slice_point: 2", (1, 2), 2),
    ],
)
def test_slice_cuts_where_it_is_told(tmp_path, parameters, edges, axis):
    text = layer("Slice", f"slice_param {{ {parameters} }}", tops=("a", "b", "c"))
    found = run(load(tmp_path, text, shape=X.shape), data=X)
    for name, wanted in zip("abc", np.split(X, edges, axis), strict=True):
        close(found[name], wanted)


@pytest.mark.parametrize("k", [1, 2])
def test_lrn_across_channels_has_a_constant(tmp_path, k):
    squares = np.pad(X**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = sum(squares[:, i : i + 6] for i in range(3))
    parameters = f"lrn_param {{ local_size: 3 alpha: 0.5 beta: 0.75 k: {k} }}"
    close(computed(tmp_path, X, "LRN", parameters), X / (k + 0.5 / 3 * total) ** 0.75)


def test_lrn_within_a_channel_averages_over_a_window_with_padding(tmp_path):
    squares = np.pad(X**2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = sum(squares[:, :, i : i + 5, j : j + 4] for i in range(3) for j in range(3))
    parameters = "lrn_param { local_size: 3 alpha: 0.5 k: 7 norm_region: WITHIN_CHANNEL }"
    close(computed(tmp_path, X, "LRN", parameters), X / (1 + 0.5 * total / 9) ** 0.75)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_normalize_divides_by_the_length(tmp_path, whole, shared):
    scale = np.array(3.0) if shared else numbers(6, seed=1)
    axes = (1, 2, 3) if whole else 1
    length = np.sqrt((X**2).sum(axes, keepdims=True) + 0.25)
    parameters = f"across_spatial: {str(whole).lower()} channel_shared: {str(shared).lower()}"
    found = computed(tmp_path, X, "Normalize", f"norm_param {{ eps: 0.25 {parameters} }}", [scale])
    close(found, X / length * scale.reshape(-1, 1, 1))


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ("", X[:, :, :3, :2]),
        ("crop_param { offset: 1 }", X[:, :, 1:4, 1:3]),
        ("crop_param { axis: 1 offset: 2 offset: 0 offset: 1 }", X[:, 2:4, :3, 1:3]),
    ],
)
def test_crop_takes_the_sizes_of_its_second_bottom(tmp_path, parameters, wanted):
    shape = "input_param { shape { dim: 2 dim: 2 dim: 3 dim: 2 } }"
    text = f"layer {{ name: 'i' type: 'Input' top: 'like' {shape} }}\n"
    text += layer("Crop", parameters, ("data", "like"))
    imported = load(tmp_path, text, shape=X.shape)
    assert [value.name for value in imported.model.graph.inputs] == ["data"]
    close(output(imported, data=X), wanted)


def test_of_equal_values_argmax_names_the_last_first(tmp_path):
    x = np.array([[3, 1, 3, 2, 3]], np.float32)
    found = computed(tmp_path, x, "ArgMax", "argmax_param { top_k: 4 out_max_val: true }")
    close(found, [[[4, 2, 0, 3], [3, 3, 3, 2]]])


def test_prior_boxes_are_a_constant(tmp_path):
    parameters = (
        "prior_box_param { min_size: 4 max_size: 9 aspect_ratio: 2 aspect_ratio: 1 flip: false "
        "clip: true variance: 0.5 step: 3 offset: 0.25 img_h: 20 img_w: 10 }"
    )
    text = layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=("p",))
    text = text.replace("'y'", "'p'", 1) + layer("PriorBox", parameters, ("p", "data"))
    imported = load(tmp_path, text, shape=(1, 6, 4, 6))
    found = run(imported)["y"]
    wanted = []
    for row in range(2):
        for column in range(3):
            x, y = (column + 0.25) * 3, (row + 0.25) * 3
            for w, h in ((4, 4), (6, 6), (4 * 2**0.5, 4 / 2**0.5)):
                corners = ((x - w / 2) / 10, (y - h / 2) / 20, (x + w / 2) / 10, (y + h / 2) / 20)
                wanted += [min(max(corner, 0), 1) for corner in corners]
    close(found, [[wanted, [0.5] * len(wanted)]])


def test_dummy_data_and_parameters_are_constants(tmp_path):
    text = (
        "layer { name: 'd' type: 'DummyData' top: 'd' dummy_data_param { num: 2 channels: 6 "
        "height: 5 width: 4 data_filler { value: 0.5 } } }"
        "layer { name: 'w' type: 'Parameter' top: 'w' parameter_param { shape { dim: 6 } } }"
        + layer("Eltwise", "", ("data", "d")).replace("'y'", "'e'")
        + layer("Scale", "", ("e", "w"))
    )
    learnt = numbers(6, seed=1)
    found = output(load(tmp_path, text, {"w": [learnt]}, shape=X.shape), data=X)
    close(found, (X + 0.5) * learnt[:, None, None])


REFUSED = [
    ("Convolution", "convolution_param { kernel_size: 3 }", "num_output"),
    ("Convolution", "convolution_param { num_output: 2 kernel_size: 9 }", "makes a blob"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 1 group: 4 }", "4 groups"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 1 axis: 2 }", "axis 2"),
    ("InnerProduct", "inner_product_param { axis: 1 }", "num_output 0"),
    ("InnerProduct", "inner_product_param { num_output: 3 axis: 4 }", "axis 4"),
    ("Clip", "", "clip_param is missing"),
    ("Clip", "clip_param { min: 1 max: 0 }", "from 1 to 0"),
    ("LRN", "lrn_param { local_size: 4 }", "odd"),
    ("Eltwise", "", "2 to"),
    ("Exp", "exp_param { base: 0 }", "base 0"),
    ("Reshape", "reshape_param { shape { dim: 7 } }", "240 elements"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "shape [-1, -1]"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: 7 } }", "cannot become"),
    ("Permute", "permute_param { order: 1 order: 1 }", "order"),
    ("Slice", "slice_param { axis: 2 slice_point: 3 }", "1 slice points for 1 tops"),
    ("Tile", "", "tiles 0"),
    ("Scale", "scale_param { num_axes: 4 }", "num_axes 4"),
    ("Flatten", "flatten_param { axis: 3 end_axis: 1 }", "before"),
    ("Softmax", "softmax_param { axis: 4 }", "axis 4"),
    ("Interp", "interp_param { pad_beg: 1 zoom_factor: 2 }", "pad_beg 1"),
    ("Interp", "", "neither"),
    ("ShuffleChannel", "shuffle_channel_param { group: 4 }", "4 groups"),
    ("ArgMax", "argmax_param { axis: 3 top_k: 5 }", "top_k 5"),
    ("Upsample", "upsample_param { scale: 2 scale_h: 3 }", "scale_h"),
    ("Upsample", "upsample_param { scale: 2 dims_num: 3 }", "dims_num"),
    ("Upsample", "", "without scale"),
    ("Unsqueeze", "unsqueeze_param { dim: 5 }", "dim 5"),
    ("Pad", "pad_param { pad_u: 1 pad_d: -1 }", "signs differ"),
    ("Pad", "pad_param { pad_type: REFLECT pad_u: 5 }", "too small"),
    ("BilinearInterpolate", "", "how large"),
    ("BilinearInterpolate", "bilinear_interpolate_param { dst_h: 1 }", "between two elements"),
    ("SPP", "", "pyramid_height 0"),
    ("SPP", "spp_param { pyramid_height: 4 }", "smaller"),
]


@pytest.mark.parametrize(("kind", "parameters", "words"), REFUSED, ids=range(len(REFUSED)))
def test_parameters_that_do_not_fit_are_refused(tmp_path, kind, parameters, words):
    blobs = {"y": [numbers(4, 6, 1, 1)]}
    found = error(load(tmp_path, layer(kind, parameters), blobs, shape=X.shape))
    assert words in found.message
    assert found.location.line == 2


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("DetectionOutput", "DLA135"),
        ("Reorg", "DLA135"),
        ("LSTM", "DLA135"),
        ("Python", "DLA135"),
        ("Convolutoin", "DLA102"),
        ("ConvolutionRistreto", "DLA102"),
    ],
)
def test_other_layers_are_refused_by_name(tmp_path, kind, rule):
    found = load(tmp_path, layer(kind), shape=X.shape).diagnostics.errors
    assert {item.rule for item in found} == {rule}
    assert any(kind in item.message or item.location.op == kind for item in found)
    assert all(item.help for item in found)
