"""Folding preprocessing: onnxruntime on the source, fed with preprocessed pixels, is the truth."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import dlaconv
from dlaconv.driver.pixels import folded_pixels
from dlaconv.driver.reading import load_target
from dlaconv.errors import ConversionError
from dlaconv.ir.execution import run
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.passes.fold_preprocess import fold_preprocess
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.pixel_graphs import let_take_fed, let_take_pixels
from dlaconv.ir.stages import Stage
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing


@dataclass
class Net:
    """A source: nodes from ``x`` to ``y``, with constants by name."""

    nodes: list
    constants: dict
    shape: tuple = (1, 3, 7, 6)
    dtype: int = TensorProto.FLOAT

    def model(self):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", self.dtype, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, folder):
        path = folder / "net.onnx"
        onnx.save(self.model(), path)
        return path

    def run(self, values):
        session = onnxruntime.InferenceSession(self.model().SerializeToString())
        return session.run(None, {"x": values})[0]


def node(op_type, *inputs, out="y", **attributes):
    return helper.make_node(op_type, list(inputs), [out], **attributes)


def convolution(
    rng, *, pads=(0,) * 4, stride=1, group=1, channels=3, size=(7, 6), before=(), constants=()
):
    """A convolution, or one behind other nodes that end in ``h``."""
    shape = (6, channels // group, 3, 3)
    weights = {"w": rng.normal(size=shape).astype("f"), "b": rng.normal(size=6).astype("f")}
    nodes = [*before, node("Conv", "h" if before else "x", "w", "b", pads=pads,
                           strides=[stride] * 2, group=group)]  # fmt: skip
    return Net(nodes, {**dict(constants), **weights}, (1, channels, *size))


def pictures(rng, shape, count=3):
    """Pixels, with all of them somewhere, and the two ends along the borders."""
    found = rng.integers(0, 256, (count, *shape[1:])).astype(np.uint8)
    found[0, ..., 0], found[0, ..., -1] = 0, 255
    return found


def preprocessed(pixels, how, axis):
    """What the host does without folding."""
    how, wide = how.with_preset(), pixels.astype(np.float64)
    if how.bgr:
        wide = np.flip(wide, axis)
    shape = [1] * pixels.ndim
    shape[axis] = -1
    mean, std = (np.array(v).reshape(shape) for v in (how.mean or (0,), how.std or (1,)))
    scale = 1 if how.scale is None else how.scale
    return ((wide * scale - mean) / std).astype(np.float32)


def folded(net, folder, how=None, *, unsigned=False, border=False):
    """The network at stage CANONICAL that takes pixels, what it takes, and the context."""
    imported = dlaconv.load(net.save(folder))
    assert not imported.diagnostics.errors
    options = Options(
        fold_preprocess=True,
        images=how or Preprocessing(),
        unsigned_maps=unsigned,
        border_channel=border,
    )
    pixels = folded_pixels(options, imported.model)
    context = Context(load_target(None))
    Pipeline([(Stage.CANONICAL, [*CANONICAL, fold_preprocess(pixels)])]).run(
        imported.model, context
    )
    return imported.model, pixels["x"], context


def require_same(net, folder, how=None, axis=1, *, unsigned=False, border=False, seed=0):
    """Compares pixel by pixel, and the reference for proofs too."""
    model, taken, _ = folded(net, folder, how, unsigned=unsigned, border=border)
    reference = dlaconv.load(folder / "net.onnx").model
    let_take_pixels(reference, {"x": taken})
    for picture in pictures(np.random.default_rng(seed), net.shape):
        pixels = picture[None]
        given = pixels if net.dtype == TensorProto.UINT8 else None
        given = preprocessed(pixels, how or Preprocessing(), axis) if given is None else given
        wanted = net.run(given)
        fed = taken.fed("x", pixels)
        assert fed.min() >= taken.low
        assert fed.max() <= taken.high
        limit = 3e-5 * np.abs(wanted).max()
        assert np.abs(run(model, {"x": fed.astype("f")})["y"] - wanted).max() <= limit
        found = run(reference, {"x": pixels.astype("f")})["y"]
        assert np.abs(found - wanted).max() <= limit
    return model


def reasons(error):
    assert {item.rule for item in error.value.diagnostics} == {"DLA337"}
    return " ".join(item.message for item in error.value.diagnostics)


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


def quantised(rng, *, step, zero, std=None, kind=np.uint8):
    """A QDQ network whose input and weights are quantised."""
    integers = rng.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)
    constants = {
        "s": np.float32(step), "z": kind(zero), "wi": integers,
        "ws": rng.uniform(0.01, 0.02, 6).astype("f"), "wz": np.zeros(6, np.int8),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x", "s", "z", out="q"),
        node("DequantizeLinear", "q", "s", "z", out="h"),
        node("DequantizeLinear", "wi", "ws", "wz", out="w", axis=0),
        node("Conv", "h", "w", kernel_shape=[3, 3], pads=[0] * 4),
    ]
    return Net(nodes, constants), integers


@pytest.mark.parametrize(
    ("how", "step", "zero", "kind"),
    [
        (Preprocessing(preset="unit"), 1 / 255, 0, np.uint8),
        (Preprocessing(preset="unit", mean=(128 / 255,)), 1 / 255, 0, np.int8),
        (Preprocessing(preset="raw", mean=(128,), std=(128,)), 1 / 128, 128, np.uint8),
        (Preprocessing(preset="raw", bgr=True), 1, 0, np.uint8),
    ],
)
def test_quantisers_that_keep_every_pixel_go_and_weights_keep_their_integers(
    tmp_path, how, step, zero, kind
):
    net, integers = quantised(np.random.default_rng(9), step=step, zero=zero, kind=kind)
    model = require_same(net, tmp_path, how)
    quantisers = [item for item in model.graph if item.op_type.startswith("Quantize")]
    assert len(quantisers) == 1
    kept = [v.const_value.numpy() for v in model.graph.initializers.values() if v.dtype == 3]
    wanted = integers[:, ::-1] if how.bgr else integers
    assert any(np.array_equal(array, wanted) for array in kept)


@pytest.mark.parametrize("mean", [127, 130])
@pytest.mark.parametrize("bgr", [False, True])
def test_quantised_weights_are_those_of_further_channels_where_zeros_are_whole_pixels(
    tmp_path, mean, bgr
):
    net, integers = quantised(np.random.default_rng(10), step=1 / 128, zero=mean)
    net.nodes[-1].attribute[1].ints[:] = [1] * 4
    how = Preprocessing(mean=(float(mean),), std=(128.0,), bgr=bgr)
    model = require_same(net, tmp_path, how, border=True)
    assert list(model.graph.inputs[0].shape) == [1, 6, 7, 6]
    kept = [v.const_value.numpy() for v in model.graph.initializers.values() if v.dtype == 3]
    assert any(
        array.shape[1] == 6 and np.array_equal(array[:, :3], array[:, 3:])
        and np.array_equal(array[:, :3], integers[:, ::-1] if bgr else integers)
        for array in kept
    )  # fmt: skip


def test_quantisers_that_move_pixels_are_refused(tmp_path):
    net, _ = quantised(np.random.default_rng(9), step=0.02, zero=114)
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="torchvision"))
    assert "of a pixel" in reasons(error)


def test_quantised_weights_take_one_factor_only(tmp_path):
    net, _ = quantised(np.random.default_rng(9), step=1, zero=0)
    del net.nodes[:2]
    net.nodes[-1].input[0] = "x"
    require_same(net, tmp_path, Preprocessing(preset="unit", mean=(0.4, 0.5, 0.6), std=(0.3,)))
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="torchvision"))
    assert "another factor in each channel" in reasons(error)
