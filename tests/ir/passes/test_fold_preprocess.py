"""Folding preprocessing: onnxruntime on the source, fed with preprocessed pixels, is the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import dlaconv
from dlaconv.errors import ConversionError
from dlaconv.ir.execution import run
from dlaconv.ir.pixel_graphs import let_take_fed, let_take_pixels
from dlaconv.preprocessing import Preprocessing
from tests.ir.passes.folding import (
    Net,
    convolution,
    folded,
    node,
    pictures,
    preprocessed,
    quantised,
    reasons,
    require_same,
)

NUMBER = st.floats(-2, 2, allow_subnormal=False)
DEVIATION = st.floats(0.0625, 3)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    mean=st.lists(NUMBER, min_size=3, max_size=3) | st.lists(NUMBER, min_size=1, max_size=1),
    std=st.lists(DEVIATION, min_size=3, max_size=3) | st.lists(DEVIATION, min_size=1, max_size=1),
    bgr=st.booleans(),
    stride=st.sampled_from([1, 2]),
    pad=st.sampled_from([0, 0, 1]),
    unsigned=st.booleans(),
)
def test_any_preprocessing_folds_without_padding_and_none_with_it(
    tmp_path_factory, seed, mean, std, bgr, stride, pad, unsigned
):
    folder = tmp_path_factory.mktemp("net")
    net = convolution(np.random.default_rng(seed), pads=[pad] * 4, stride=stride)
    how = Preprocessing(mean=tuple(mean), std=tuple(std), scale=1 / 255, bgr=bgr)
    zero = 0 if unsigned else 128
    # float32 holds a mean of zero pixels to a few millionths of a pixel
    off = max(abs(zero - m * 255) for m in mean)
    if pad and off > 1e-6:
        if off > 1e-4:
            with pytest.raises(ConversionError):
                folded(net, folder, how, unsigned=unsigned)
        return
    require_same(net, folder, how, unsigned=unsigned, seed=seed)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    std=st.lists(DEVIATION, min_size=3, max_size=3),
    bgr=st.booleans(),
    pads=st.tuples(*[st.integers(0, 2)] * 4).filter(any),
    unsigned=st.booleans(),
)
def test_padding_folds_where_its_zeros_are_those_of_the_hardware(
    tmp_path_factory, seed, std, bgr, pads, unsigned
):
    net = convolution(np.random.default_rng(seed), pads=pads)
    how = Preprocessing(mean=(0.0 if unsigned else 128 / 255,), std=tuple(std), scale=1 / 255,
                        bgr=bgr)  # fmt: skip
    require_same(net, tmp_path_factory.mktemp("net"), how, unsigned=unsigned, seed=seed)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    mean=st.lists(NUMBER, min_size=3, max_size=3) | st.lists(NUMBER, min_size=1, max_size=1),
    std=st.lists(DEVIATION, min_size=3, max_size=3) | st.lists(DEVIATION, min_size=1, max_size=1),
    bgr=st.booleans(),
    stride=st.sampled_from([1, 2]),
    pads=st.tuples(*[st.integers(0, 2)] * 4).filter(any),
    unsigned=st.booleans(),
)
def test_a_further_channel_tells_what_is_padded(
    tmp_path_factory, seed, mean, std, bgr, stride, pads, unsigned
):
    net = convolution(np.random.default_rng(seed), pads=pads, stride=stride)
    how = Preprocessing(mean=tuple(mean), std=tuple(std), scale=1 / 255, bgr=bgr)
    if all(abs((0 if unsigned else 128) - m * 255) < 1e-4 for m in mean):
        return
    folder = tmp_path_factory.mktemp("net")
    model = require_same(net, folder, how, unsigned=unsigned, border=True, seed=seed)
    assert list(model.graph.inputs[0].shape) == [1, 4, 7, 6]
    weights = next(item for item in model.graph if item.op_type == "Conv").inputs[1]
    largest = [np.abs(rows).max() for rows in np.split(weights.const_value.numpy(), [3], axis=1)]
    shift = sum(abs((0 if unsigned else 128) - m * 255) for m in (*mean, *mean, *mean)[:3])
    assert largest[1] <= largest[0] * 1.001 or shift > (255 if unsigned else 127)


def test_a_further_channel_beside_layers_that_do_not_pad_and_behind_a_transpose(tmp_path):
    rng = np.random.default_rng(12)
    constants = {name: rng.normal(size=(4, 3, 3, 3)).astype("f") for name in "vw"}
    constants["k"] = np.ones((4, 4, 3, 3), "f")
    nodes = [
        node("Transpose", "x", out="h", perm=[0, 3, 1, 2]),
        node("Sub", "h", "m", out="g"),
        node("Conv", "g", "v", out="p", pads=[1] * 4),
        node("Conv", "g", "w", out="q", kernel_shape=[3, 3]),
        node("Conv", "p", "k", out="r", kernel_shape=[3, 3]),
        node("Add", "q", "r"),
    ]
    net = Net(nodes, {**constants, "m": np.float32(3)}, (1, 7, 6, 3))
    model = require_same(net, tmp_path, Preprocessing(preset="caffe"), axis=3, border=True)
    assert list(model.graph.inputs[0].shape) == [1, 4, 7, 6]
    assert all(item.op_type != "Transpose" for item in model.graph)


def test_a_further_channel_where_it_is_of_no_use_is_refused(tmp_path):
    torchvision = Preprocessing(preset="torchvision")
    rng = np.random.default_rng(13)
    flat = Net([node("Flatten", "x", out="f"), node("MatMul", "f", "w")],
               {"w": rng.normal(size=(126, 5)).astype("f")})  # fmt: skip
    grouped = convolution(rng, group=3, pads=[1] * 4)
    for net, words in (
        (convolution(rng), "no first layer pads"),
        (flat, "cannot go into this Gemm"),
        (grouped, "cannot go into this Conv"),
    ):
        with pytest.raises(ConversionError) as error:
            folded(net, tmp_path, torchvision, border=True)
        assert words in reasons(error)
    net, _ = quantised(rng, step=1, zero=0)
    del net.nodes[:2]
    net.nodes[-1].input[0] = "x"
    net.nodes[-1].attribute[1].ints[:] = [1] * 4
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="unit"), border=True)
    assert "those for a further channel leave their grid" in reasons(error)


@pytest.mark.parametrize("shape", [("n", 3, 7, 6), ("n", "c", "h", "w")])
@pytest.mark.parametrize("how", [
    Preprocessing(preset="caffe"), Preprocessing(preset="raw", bgr=True), Preprocessing(scale=0.5),
])  # fmt: skip
def test_a_source_of_open_shape_can_take_pixels(tmp_path, shape, how):
    net = convolution(np.random.default_rng(17), pads=[1] * 4)
    _, taken, _ = folded(net, tmp_path, how, border=True)
    net.shape = shape
    reference = dlaconv.load(net.save(tmp_path)).model
    let_take_pixels(reference, {"x": taken})
    pixels = pictures(np.random.default_rng(0), (1, 3, 7, 6))
    wanted = net.run(preprocessed(pixels, how, 1))
    got = run(reference, {"x": pixels.astype("f")})["y"]
    assert np.abs(got - wanted).max() <= 3e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("border", [False, True])
def test_a_network_that_takes_what_is_fed_can_take_pixels_again(tmp_path, border):
    net = convolution(np.random.default_rng(14), pads=[int(border)] * 4)
    model, taken, _ = folded(net, tmp_path, Preprocessing(preset="caffe"), border=border)
    pixels = pictures(np.random.default_rng(0), net.shape)[:1]
    wanted = run(model, {"x": taken.fed("x", pixels).astype("f")})["y"]
    let_take_fed(model, {"x": taken})
    assert np.array_equal(run(model, {"x": pixels.astype("f")})["y"], wanted)


@pytest.mark.parametrize("preset", ["torchvision", "tf", "caffe", "unit", "raw"])
def test_presets(tmp_path, preset):
    require_same(convolution(np.random.default_rng(1)), tmp_path, Preprocessing(preset=preset))


def test_depthwise_and_grouped_layers_take_the_factor_of_their_channels(tmp_path):
    for channels, group in ((3, 3), (6, 3), (6, 2)):
        rng = np.random.default_rng(group)
        net = convolution(rng, group=group, channels=channels)
        mean, std = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
        require_same(net, tmp_path, Preprocessing(mean=tuple(mean), std=tuple(std)))


def test_an_order_of_channels_does_not_go_into_a_grouped_layer(tmp_path):
    net = convolution(np.random.default_rng(0), group=3)
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="raw", bgr=True))
    assert "order of channels" in reasons(error)


def test_fully_connected_layers_behind_a_flatten_take_each_pixel(tmp_path):
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.normal(size=(3 * 7 * 6, 5)).astype("f"),
        "b": rng.normal(size=5).astype("f"),
    }
    net = Net([node("Flatten", "x", out="f"), node("Gemm", "f", "w", "b")], weights)
    for bgr in (False, True):
        require_same(net, tmp_path, Preprocessing(preset="torchvision", bgr=bgr))
    mean = rng.normal(size=(1, 3, 7, 6)).astype("f")  # a mean picture, as Caffe has it
    net = Net([node("Sub", "x", "mean", out="h"), *net.nodes], {**weights, "mean": mean})
    net.nodes[1].input[0] = "h"
    require_same(net, tmp_path, Preprocessing(preset="raw", bgr=True))


def test_a_vector_of_pixels(tmp_path):
    rng = np.random.default_rng(3)
    net = Net([node("MatMul", "x", "w")], {"w": rng.normal(size=(784, 5)).astype("f")}, (1, 784))
    require_same(net, tmp_path, Preprocessing(preset="unit", mean=(0.1307,), std=(0.3081,)))


def test_channels_last(tmp_path):
    rng = np.random.default_rng(4)
    turn = node("Transpose", "x", out="h", perm=[0, 3, 1, 2])
    net = convolution(rng, before=[turn])
    net.shape = (1, 7, 6, 3)
    for bgr in (False, True):
        model = require_same(net, tmp_path, Preprocessing(preset="torchvision", bgr=bgr), axis=3)
    assert [item.op_type for item in model.graph][1:] == ["Conv"]
    assert list(model.graph.inputs[0].shape) == [1, 3, 7, 6]


@pytest.mark.parametrize("border", [False, True])
def test_channels_stay_last_where_not_every_reader_wants_them_first(tmp_path, border):
    rng = np.random.default_rng(15)
    constants = {"v": rng.normal(size=(4, 3, 3, 3)).astype("f")}
    nodes = [
        node("Transpose", "x", out="h", perm=[0, 3, 1, 2]),
        node("Transpose", "x", out="g", perm=[0, 3, 2, 1]),
        node("Conv", "h", "v", out="p", pads=[int(border)] * 4),
        node("Conv", "g", "v", out="q", pads=[int(border)] * 4),
        node("Transpose", "q", out="r", perm=[0, 1, 3, 2]),
        node("Add", "p", "r"),
    ]
    net = Net(nodes, constants, (1, 7, 6, 3))
    model = require_same(net, tmp_path, Preprocessing(preset="caffe"), axis=3, border=border)
    assert list(model.graph.inputs[0].shape) == [1, 7, 6, 3 + border]


def test_channels_that_are_put_first_behind_arithmetic(tmp_path):
    turn = node("Transpose", "g", out="h", perm=[0, 3, 1, 2])
    before = [node("Div", "x", "s", out="f"), node("Sub", "f", "m", out="g"), turn]
    constants = {"s": np.float32(255), "m": np.array([0.4, 0.5, 0.6], np.float32)}
    net = convolution(np.random.default_rng(16), pads=[1] * 4, before=before, constants=constants)
    net.shape = (1, 7, 6, 3)
    model = require_same(net, tmp_path, axis=3, border=True)
    assert list(model.graph.inputs[0].shape) == [1, 4, 7, 6]
    assert [item.op_type for item in model.graph][1:] == ["Conv"]


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.UINT8])
def test_what_the_network_itself_does_to_pixels_folds(tmp_path, dtype):
    rng = np.random.default_rng(5)
    constants = {
        "mean": rng.uniform(90, 140, (1, 3, 1, 1)).astype("f"),
        "std": rng.uniform(40, 70, (3, 1, 1)).astype("f"),
        "ones": np.ones(3, "f"), "zeros": rng.normal(size=3).astype("f"),
        "var": rng.uniform(1, 2, 3).astype("f"), "two": np.float32(-2),
    }  # fmt: skip
    before = [
        node("Sub", "x", "mean", out="a"),
        node("Div", "a", "std", out="c"),
        node("Mul", "two", "c", out="d"),
        node("BatchNormalization", "d", "ones", "zeros", "zeros", "var", out="h"),
    ]
    if dtype == TensorProto.UINT8:
        before = [node("Cast", "x", out="p", to=TensorProto.FLOAT), *before]
        before[1].input[0] = "p"
    net = convolution(rng, before=before, constants=constants)
    net.dtype = dtype
    model = require_same(net, tmp_path)
    assert [item.op_type for item in model.graph][1:] == ["Conv"]


def test_every_reader_of_the_input_folds(tmp_path):
    rng = np.random.default_rng(6)
    names = ("v", "w")
    constants = {name: rng.normal(size=(4, 3, 3, 3)).astype("f") for name in names}
    net = Net(
        [
            node("Sub", "x", "m", out="h"),
            node("Conv", "h", "v", out="p", kernel_shape=[3, 3]),
            node("Conv", "x", "w", out="q", kernel_shape=[3, 3]),
            node("Add", "p", "q"),
        ],
        {**constants, "m": np.float32(3)},
    )
    require_same(net, tmp_path, Preprocessing(preset="torchvision", bgr=True))


def test_what_is_no_layer_is_named_with_all_the_rest(tmp_path):
    rng = np.random.default_rng(7)
    before = [node("Relu", "x", out="r"), node("Sub", "x", "m", out="h")]
    net = convolution(rng, pads=[1] * 4, before=before, constants={"m": np.float32(3)})
    net.nodes[2].output[0] = "t"
    net.nodes += [node("Conv", "r", "w", "b", out="z", pads=[1] * 4), node("Add", "t", "z")]
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="raw"))
    said = reasons(error)
    assert "a Relu reads" in said
    assert "pixels of 3 in the source and of 128" in said


def test_a_mean_that_differs_from_place_to_place_stays_out_of_a_convolution(tmp_path):
    rng = np.random.default_rng(8)
    mean = rng.normal(size=(1, 3, 7, 6)).astype("f")
    net = convolution(rng, before=[node("Sub", "x", "m", out="h")], constants={"m": mean})
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="raw"))
    assert "from place to place" in reasons(error)
