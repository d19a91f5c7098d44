"""Convolution, Deconvolution and InnerProduct, worked out window by window."""

import math

import numpy as np
import pytest

from tests.frontends.caffe.files import close, computed, layer, load, numbers, run

X = numbers(2, 6, 5, 4)


def convolved(x, weights, bias, stride, pad, dilation, group):
    """A convolution, window by window."""
    x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, weights.shape[2:], strict=True)]
    size = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], extent, stride, strict=True)]
    found = np.zeros((len(x), len(weights), *size), np.float32)
    each, channels = len(weights) // group, x.shape[1] // group
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * stride[0], j * stride[1]
            seen = x[
                :, :, top : top + extent[0] : dilation[0], left : left + extent[1] : dilation[1]
            ]
            for o in range(len(weights)):
                first = o // each * channels
                part = seen[:, first : first + channels]
                found[:, o, i, j] = (part * weights[o]).sum((1, 2, 3))
    return found + bias[:, None, None]


CONVOLUTIONS = {
    "kernel_size: 3": ((3, 3), (1, 1), (0, 0), (1, 1), 1),
    "kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 pad: 1 pad: 0": (
        (3, 2), (2, 1), (1, 0), (1, 1), 1
    ),
    "kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2 pad_w: 1": (
        (1, 3), (1, 2), (0, 1), (1, 1), 1
    ),
    "kernel_size: 2 dilation: 2 pad: 1 group: 2": ((2, 2), (1, 1), (1, 1), (2, 2), 2),
    "kernel_size: 2 dilation: 2 dilation: 1 group: 6": ((2, 2), (1, 1), (0, 0), (2, 1), 6),
}  # fmt: skip


@pytest.mark.parametrize("parameters", CONVOLUTIONS)
def test_a_convolution_is_that_of_caffe(tmp_path, parameters):
    kernel, stride, pad, dilation, group = CONVOLUTIONS[parameters]
    weights, bias = numbers(12, 6 // group, *kernel, seed=1), numbers(12, seed=2)
    text = f"convolution_param {{ num_output: 12 {parameters} }}"
    found = computed(tmp_path, X, "Convolution", text, [weights, bias])
    close(found, convolved(X, weights, bias, stride, pad, dilation, group))


def test_a_depthwise_convolution_has_as_many_groups_as_channels(tmp_path):
    weights = numbers(6, 1, 3, 3, seed=1)
    text = "convolution_param { num_output: 6 kernel_size: 3 bias_term: false }"
    wanted = convolved(X, weights, np.zeros(6), (1, 1), (0, 0), (1, 1), 6)
    for kind in ("DepthwiseConvolution", "ConvolutionDepthwise"):
        close(computed(tmp_path, X, kind, text, [weights]), wanted)


@pytest.mark.parametrize("group", [1, 2])
def test_a_deconvolution_spreads_each_element(tmp_path, group):
    weights, bias = numbers(6, 4 // group, 3, 3, seed=1), numbers(4, seed=2)
    spread = np.zeros((2, 4, 11, 9), np.float32)
    for c in range(6):
        first = c // (6 // group) * (4 // group)
        for i in range(5):
            for j in range(4):
                area = spread[:, first : first + 4 // group, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                area += X[:, c, i, j][:, None, None, None] * weights[c]
    parameters = "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: %d }"
    found = computed(tmp_path, X, "Deconvolution", parameters % group, [weights, bias])
    close(found, spread[:, :, 1:-1, 1:-1] + bias[:, None, None])


def test_a_convolution_of_two_bottoms_shares_its_weights(tmp_path):
    weights = numbers(6, 6, 1, 1)
    text = layer("ReLU", tops=("r",)).replace("'y'", "'r'", 1) + layer(
        "Convolution",
        "convolution_param { num_output: 6 kernel_size: 1 bias_term: false }",
        ("data", "r"),
        ("a", "b"),
    )
    imported = load(tmp_path, text, {"y": [weights]}, shape=X.shape)
    found = run(imported, data=X)
    matrix = weights[:, :, 0, 0]
    close(found["a"], np.einsum("oc,nchw->nohw", matrix, X))
    close(found["b"], np.einsum("oc,nchw->nohw", matrix, X.clip(0)))
    assert len(imported.model.graph.initializers) == 1


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_an_inner_product_keeps_what_is_before_its_axis(tmp_path, axis, transpose):
    inner = math.prod(X.shape[axis:])
    weights, bias = numbers(7, inner, seed=1), numbers(7, seed=2)
    wanted = X.reshape(*X.shape[:axis], inner) @ weights.T + bias
    parameters = f"num_output: 7 axis: {axis} transpose: {str(transpose).lower()}"
    stored = weights.T.copy() if transpose else weights
    found = computed(
        tmp_path, X, "InnerProduct", f"inner_product_param {{ {parameters} }}", [stored, bias]
    )
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
