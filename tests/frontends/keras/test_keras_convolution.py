"""Linear layers of Keras against sums over windows."""

import numpy as np
import pytest

from tests.frontends.keras import reference
from tests.frontends.keras.files import L, findings, given, one_layer, save

RNG = np.random.default_rng(3)


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "kind"),
    [
        ((6, 7), (3, 3), (1, 1), (1, 1), "same"),
        ((6, 7), (3, 3), (2, 2), (1, 1), "same"),
        ((8, 5), (2, 5), (2, 3), (1, 1), "same"),
        ((9, 9), (3, 3), (1, 1), (2, 3), "same"),
        ((9, 8), (3, 2), (2, 1), (1, 1), "valid"),
        ((9, 9), (3, 3), (1, 1), (2, 2), "valid"),
        ((5, 5), (1, 1), (3, 3), (1, 1), "same"),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_pads_as_keras_does(tmp_path, size, kernel, stride, dilation, kind, groups):
    x, weights, bias = values(2, *size, 4), values(*kernel, 4 // groups, 6), values(6)
    config = {
        "filters": 6,
        "kernel_size": list(kernel),
        "strides": list(stride),
        "dilation_rate": list(dilation),
        "padding": kind,
        "groups": groups,
    }
    layer = L("Conv2D", "c", config=config, weights={"kernel": weights, "bias": bias})
    wanted = reference.convolution(x, weights, stride, dilation, kind, groups) + bias
    close(one_layer(tmp_path, layer, x), wanted)


@pytest.mark.parametrize("kind", ["same", "valid", "causal"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_a_convolution_of_one_axis_may_be_causal(tmp_path, kind, stride, dilation):
    x, weights = values(2, 9, 3), values(4, 3, 5)
    config = {
        "filters": 5,
        "kernel_size": [4],
        "strides": [stride],
        "dilation_rate": [dilation],
        "padding": kind,
        "use_bias": False,
    }
    layer = L("Conv1D", "c", config=config, weights={"kernel": weights})
    wanted = reference.convolution(x, weights, (stride,), (dilation,), kind)
    close(one_layer(tmp_path, layer, x), wanted)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("ending", "name"), [(".keras", "kernel"), (".h5", "depthwise_kernel")])
def test_a_depthwise_convolution_orders_outputs_by_channel(
    tmp_path, multiplier, stride, ending, name
):
    x, weights, bias = values(2, 6, 5, 3), values(3, 3, 3, multiplier), values(3 * multiplier)
    config = {
        "kernel_size": [3, 3],
        "strides": [stride, stride],
        "padding": "same",
        "depth_multiplier": multiplier,
    }
    layer = L("DepthwiseConv2D", "d", config=config, weights={name: weights, "bias": bias})
    wanted = reference.depthwise(x, weights, (stride, stride), (1, 1), "same") + bias
    close(one_layer(tmp_path, layer, x, ending=ending), wanted)


def test_the_kernel_of_keras_3_has_another_name_in_h5(tmp_path):
    x, weights = values(1, 4, 4, 3), values(3, 3, 3, 1)
    config = {"kernel_size": [3, 3], "padding": "valid", "use_bias": False}
    layer = L("DepthwiseConv2D", "d", config=config, weights={"kernel": weights})
    wanted = reference.depthwise(x, weights, (1, 1), (1, 1), "valid")
    close(one_layer(tmp_path, layer, x, ending=".h5"), wanted)


def test_a_separable_convolution_strides_in_its_first_half(tmp_path):
    x, depth, point, bias = values(2, 7, 6, 3), values(3, 3, 3, 2), values(1, 1, 6, 4), values(4)
    config = {
        "filters": 4,
        "kernel_size": [3, 3],
        "strides": [2, 2],
        "padding": "same",
        "depth_multiplier": 2,
    }
    weights = {"depthwise_kernel": depth, "pointwise_kernel": point, "bias": bias}
    inner = reference.depthwise(x, depth, (2, 2), (1, 1), "same")
    wanted = inner @ point[0, 0] + bias
    close(one_layer(tmp_path, L("SeparableConv2D", "s", config=config, weights=weights), x), wanted)


@pytest.mark.parametrize(
    ("kernel", "stride", "kind", "more", "result"),
    [
        # what tf.keras makes of five elements: how many, and how many are cut at the beginning
        (3, 2, "valid", None, (11, 0)),
        (2, 2, "valid", None, (10, 0)),
        (1, 3, "valid", None, (15, 0)),
        (3, 2, "same", None, (10, 0)),
        (4, 2, "same", None, (10, 1)),
        (2, 3, "same", None, (15, 0)),
        (3, 1, "same", None, (5, 1)),
        (3, 2, "same", 1, (10, 0)),
        (3, 2, "same", 0, (9, 1)),
        (3, 2, "valid", 1, (12, 0)),
    ],
)
def test_a_transposed_convolution_is_sized_as_in_keras(
    tmp_path, kernel, stride, kind, more, result
):
    x, weights, bias = values(2, 5, 5, 3), values(kernel, kernel, 4, 3), values(4)
    config = {
        "filters": 4,
        "kernel_size": [kernel, kernel],
        "strides": [stride, stride],
        "padding": kind,
        "output_padding": None if more is None else [more, more],
    }
    layer = L("Conv2DTranspose", "t", config=config, weights={"kernel": weights, "bias": bias})
    wanted = reference.transposed(x, weights, (stride,) * 2, (1, 1), (result,) * 2) + bias
    close(one_layer(tmp_path, layer, x), wanted)


def test_channels_first_maps_are_read_as_such(tmp_path):
    x, weights = values(2, 3, 6, 5), values(3, 3, 3, 4)
    config = {
        "filters": 4,
        "kernel_size": [3, 3],
        "padding": "same",
        "use_bias": False,
        "data_format": "channels_first",
    }
    layer = L("Conv2D", "c", config=config, weights={"kernel": weights})
    wanted = reference.convolution(x.transpose(0, 2, 3, 1), weights, (1, 1), (1, 1), "same")
    close(one_layer(tmp_path, layer, x), wanted.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 6), (2, 3, 4, 6)])
def test_a_dense_works_on_the_last_axis_of_any_rank(tmp_path, shape):
    x, kernel, bias = values(*shape), values(6, 3), values(3)
    layer = L("Dense", "d", config={"units": 3}, weights={"kernel": kernel, "bias": bias})
    close(one_layer(tmp_path, layer, x), x @ kernel + bias)


@pytest.mark.parametrize("kind", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), None), ((3, 2), (2, 1)), ((3, 3), (2, 2))])
def test_pools_pad_without_counting(tmp_path, kind, kernel, stride):
    x = values(2, 6, 7, 3) - 4  # a padding of zeros would win
    config = {"pool_size": list(kernel), "strides": stride and list(stride), "padding": kind}
    stride = stride or kernel
    found = one_layer(tmp_path, L("MaxPooling2D", "p", config=config), x)
    close(found, reference.maximum(x, kernel, stride, kind))
    found = one_layer(tmp_path, L("AveragePooling2D", "p", config=config), x)
    close(found, reference.average(x, kernel, stride, kind))


@pytest.mark.parametrize("keep", [False, True])
def test_global_pools_are_taken_over_space(tmp_path, keep):
    x, config = values(2, 5, 4, 3), {"keepdims": keep}
    found = one_layer(tmp_path, L("GlobalAveragePooling2D", "g", config=config), x)
    close(found, x.mean((1, 2), keepdims=keep))
    found = one_layer(tmp_path, L("GlobalMaxPooling2D", "g", config=config), x)
    close(found, x.max((1, 2), keepdims=keep))
    first = {**config, "data_format": "channels_first"}
    found = one_layer(tmp_path, L("GlobalAveragePooling2D", "g", config=first), x)
    close(found, x.mean((2, 3), keepdims=keep))


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("Conv2D", {"filters": 0}, "filters is 0"),
        ("Conv2D", {"kernel_size": [3]}, "kernel_size"),
        ("Conv2D", {"kernel_size": [9, 9], "padding": "valid"}, "a window of 9 on 6 elements"),
        ("Conv2D", {"padding": "full"}, "padding 'full'"),
        ("Conv2D", {"padding": "causal"}, "padding 'causal'"),
        ("Conv2D", {"groups": 2}, "in 2 groups"),
        ("Conv2D", {"strides": [0, 1]}, "strides"),
        ("Conv2D", {"data_format": "channels_middle"}, "data_format"),
        ("Conv2D", {"data_format": ["channels_last"]}, "data_format"),
        ("Conv1D", {"kernel_size": [3]}, "reads 3 dimensions"),
        ("Conv2DTranspose", {"output_padding": 5}, "output_padding is 5"),
    ],
)
def test_parameters_that_make_no_layer_are_refused(tmp_path, kind, change, why):
    config = {"filters": 4, "kernel_size": [3, 3], "padding": "same", **change}
    ends = (4, 3) if kind == "Conv2DTranspose" else (3, 4)
    weights = {"kernel": values(*config["kernel_size"], *ends), "bias": values(4)}
    layer = L(kind, "c", ["x"], config, weights)
    path = save(tmp_path / "m.keras", [given("x", (6, 6, 3)), layer], ["c"])
    [(rule, message)] = findings(path)
    assert rule == "DLA108"
    assert why in message


def test_weights_must_fit_the_parameters(tmp_path):
    config = {"filters": 4, "kernel_size": [3, 3]}
    there = [
        L("Conv2D", "a", ["x"], config, {"kernel": values(3, 3, 4, 3), "bias": values(4)}),
        L("Conv2D", "b", ["x"], config, {"kernel": values(3, 3, 3, 4)}),
    ]
    path = save(tmp_path / "m.keras", [given("x", (6, 6, 3)), *there], ["a", "b"])
    assert findings(path) == [
        (
            "DLA177",
            "kernel has shape [3, 3, 4, 3] in the file, [3, 3, 3, 4] by the layer's parameters",
        ),
        ("DLA176", f"{path} has no bias for the layer"),
    ]
