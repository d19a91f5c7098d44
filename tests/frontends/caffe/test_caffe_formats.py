"""Formats between layers: what hands one on, and where values are rounded again."""

import numpy as np
import pytest

from dlaconv.diagnostics import Severity
from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor
from tests.frontends.caffe.files import numbers, output
from tests.frontends.caffe.integer_model import IntegerModel, away
from tests.frontends.caffe.quantised import (
    convolution,
    fixed,
    grids,
    in_place,
    integers,
    load,
    named,
    rules,
    steps,
    thresholds,
)

SHAPE = (1, 3, 8, 8)
MAX = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
AVE = "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"


def image(*shape, seed=0, most=8.0):
    return np.random.default_rng(seed).uniform(-most, most, shape).astype(np.float32)


def weights(*shape, seed=0):
    return numbers(*shape, seed=seed) / np.sqrt(np.prod(shape[1:]))


def between(text, blob="a"):
    """Two convolutions of one format with layers between them, which end in a blob."""
    first = convolution("first", "data", 4, fixed(4, 4, 7), "kernel_size: 1", top="a")
    return (
        first
        + text
        + convolution("last", blob, 4, fixed(4, 4, 7), "kernel_size: 1 bias_term: false")
    )


BLOBS = {"first": [weights(4, 3, 1, 1), numbers(4)], "last": [weights(4, 4, 1, 1, seed=1)]}
HAND_ON = {
    "ReLU": in_place("r", "ReLU", "a"),
    "ReLU of its own": named("b", "ReLU", "", ["a"]),
    "MAX": named("b", "Pooling", MAX, ["a"]),
    "Dropout": in_place("d", "Dropout", "a"),
    "Split": named("s", "Split", "", ["a"], ["b", "c"]),
    "Slice": named("t", "Tile", "tile_param { axis: 1 tiles: 2 }", ["a"], ["t"])
    + named("s", "Slice", "", ["t"], ["b", "c"]),
    "Concat": named("s", "Slice", "", ["a"], ["c", "d"])
    + named("b", "Concat", "", ["d", "c"]),
    "Concat of one": named("b", "Concat", "", ["a"]),
    "Concat of a ReLU": named("r", "ReLU", "", ["a"])
    + named("b", "Concat", "concat_param { axis: 2 }", ["a", "r"]),
    "Permute": named("b", "Permute", "permute_param { order: [0, 1, 3, 2] }", ["a"]),
    "Reshape": named("b", "Reshape", "reshape_param { shape { dim: 0 dim: 4 dim: 4 dim: 16 } }",
                     ["a"]),
    "ShuffleChannel": named("b", "ShuffleChannel", "shuffle_channel_param { group: 2 }", ["a"]),
    "Upsample": named("b", "Upsample", "upsample_param { scale: 2 }", ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND_ON)
def test_a_layer_that_moves_or_picks_values_hands_the_format_on(tmp_path, name):
    text = HAND_ON[name]
    imported = load(tmp_path, between(text, "b" if "'b'" in text else "a"), BLOBS, shape=SHAPE)
    assert not imported.diagnostics.errors
    assert steps(imported) == [1 / 16] * 3
    assert not rules(imported, "DLA147")


@pytest.mark.parametrize("before", ["Flatten", "TanH"])
def test_real_values_end_at_the_threshold(tmp_path, before):
    text = named("f", before, "", ["data"], ["flat"]) + named(
        "p",
        "InnerProduct",
        f"inner_product_param {{ num_output: 2 bias_term: false }} {thresholds(8, 8, [1, 1])}",
        ["flat"],
    )
    imported = load(tmp_path, text, {"p": [weights(2, 12)]}, shape=(1, 3, 2, 2))
    first = next(node for node in imported.model.graph if dialect.is_quantize(node))
    assert dialect.quantisation_of(first).qmin == -127


@pytest.mark.parametrize("moved", [False, True])
def test_an_image_is_stored_once_in_the_format_of_its_first_reader(tmp_path, moved):
    text = convolution("a", "data", 4, fixed(4, 4, 7), "kernel_size: 1")
    text += named("p", "Permute", "permute_param { order: [0, 1, 3, 2] }", ["data"])
    text += convolution("b", "p" if moved else "data", 4, fixed(6, 4, 7), "kernel_size: 1")
    blobs = {"a": BLOBS["first"], "b": BLOBS["first"]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    quantisers = [node for node in imported.model.graph if dialect.is_quantize(node)]
    fed = [node for node in quantisers if node.inputs[0].is_graph_input()]
    assert [dialect.quantisation_of(node).scalar_step for node in fed] == [2.0**-4]
    assert sorted(steps(imported)) == [2.0**-6, 2.0**-4, 2.0**-4, 2.0**-4]
    [warned] = rules(imported, "DLA147")
    assert warned.location.layer == "b"


def test_each_layer_of_ristretto_rounds_the_image_for_itself(tmp_path):
    param = "quantization_param { bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 "
    param += "fl_layer_in: %d fl_layer_out: 4 fl_params: 6 }"
    text = "".join(
        convolution(name, "data", 4, param % fl, "kernel_size: 1")
        for name, fl in (("a", 4), ("b", 6))
    ).replace("'Convolution'", "'ConvolutionRistretto'")
    imported = load(tmp_path, text, {"a": BLOBS["first"], "b": BLOBS["first"]}, shape=SHAPE)
    nodes = [node for node in imported.model.graph if dialect.is_quantize(node)]
    fed = [dialect.quantisation_of(node) for node in nodes if node.inputs[0].is_graph_input()]
    assert [item.scalar_step for item in fed] == [2.0**-4, 2.0**-6]


def test_an_average_is_rounded_behind_its_slope(tmp_path):
    text = named("p", "Pooling", AVE + fixed(4, 5)) + in_place(
        "r", "ReLU", "p", "relu_param { negative_slope: 0.25 }"
    )
    imported = load(tmp_path, text, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-5]
    assert [node.op_type for node in imported.model.graph][-2:] == ["LeakyRelu", "QuantizeHalfAway"]


@pytest.mark.parametrize("kept", ["ave", "leaky", "prelu"])
def test_layers_that_compute_without_formats_keep_that_of_what_they_read(tmp_path, kept):
    text, blobs = {
        "ave": (named("b", "Pooling", AVE, ["a"]), {}),
        "leaky": (named("b", "ReLU", "relu_param { negative_slope: 0.3 }", ["a"]), {}),
        "prelu": (named("b", "PReLU", "", ["a"]), {"b": [np.full(4, 0.3)]}),
    }[kept]
    imported = load(tmp_path, between(text, "b"), {**BLOBS, **blobs}, shape=SHAPE)
    assert steps(imported) == [1 / 16] * (4 if kept == "ave" else 3)
    [grid] = grids(imported)["b"]
    assert (grid.qmin, grid.qmax) == (-128, 127)
    assert len(rules(imported, "DLA147")) == (kept == "leaky")


def test_a_leaky_slope_is_computed_before_the_one_rounding(tmp_path):
    text = convolution("a", "data", 4, fixed(4, 4, 7), "kernel_size: 1") + in_place(
        "r", "ReLU", "a", "relu_param { negative_slope: 0.25 }"
    )
    blobs = {"a": [BLOBS["first"][0] * 3, numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image(*SHAPE)
    w, b = blobs["a"]
    w, b = np.clip(away(w * 128.0), -128, 127), np.clip(away(b * 16.0), -128, 127)
    q = np.clip(away(x * 16.0), -128, 127)
    real = np.einsum("oi,nihw->nohw", w[:, :, 0, 0], q) / 128 + b.reshape(1, -1, 1, 1)
    wanted = np.clip(away(np.where(real < 0, real / 4, real)), -128, 127)
    assert real.min() < -200  # a rounding before the slope would end at -128
    np.testing.assert_array_equal(integers(output(imported, data=x), 1 / 16), wanted)
    [warned] = rules(imported, "DLA147")
    assert "'r' multiplies negative values by 0.25" in warned.message


def test_a_leaky_relu_of_its_own_is_a_second_rounding(tmp_path):
    text = (
        convolution("a", "data", 4, fixed(4, 4, 7), "kernel_size: 1")
        + named("b", "ReLU", "relu_param { negative_slope: 0.25 }", ["a"])
        + named("c", "TanH", "", ["a"])
    )
    imported = load(tmp_path, text, {"a": BLOBS["first"]}, shape=SHAPE)
    assert steps(imported) == [1 / 16] * 3


@pytest.mark.parametrize(
    "middle", ["", in_place("r", "ReLU", "a"), named("b", "Pooling", MAX, "a")]
)
def test_another_format_is_a_rounding_of_its_own(tmp_path, middle):
    blob = "b" if middle and "Pooling" in middle else "a"
    text = (
        convolution("a", "data", 4, fixed(4, 5, 7), "kernel_size: 1")
        + middle
        + convolution("c", blob, 4, fixed(3, 4, 7), "kernel_size: 1")
        + convolution("d", blob, 4, fixed(3, 4, 7), "kernel_size: 1")
        + convolution("e", blob, 4, fixed(5, 4, 7), "kernel_size: 1")
    )
    blobs = {"a": BLOBS["first"]} | {name: [weights(4, 4, 1, 1), numbers(4)] for name in "cde"}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    found = Executor(imported.model).run({"data": x})
    for name in "cde":
        np.testing.assert_array_equal(integers(found[name], 1 / 16), maps[name].q)
    [warned] = rules(imported, "DLA147")
    assert warned.severity is Severity.WARNING
    assert warned.location.layer == "c"
    writer = {"": "a", "a": "r", "b": "b"}[blob if middle else ""]
    assert f"'{writer}' writes 8 bits with fl 5 and 'c' reads 8 bits with fl 3" in warned.message


def test_fewer_bits_of_one_step_are_a_rounding_of_its_own(tmp_path):
    text = convolution("a", "data", 4, fixed(4, 4, 7), "kernel_size: 1") + convolution(
        "b", "a", 4, fixed(4, 4, 7, bits=6), "kernel_size: 1"
    )
    blobs = {"a": BLOBS["first"], "b": [weights(4, 4, 1, 1), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    np.testing.assert_array_equal(integers(output(imported, data=x), 1 / 16), maps["b"].q)
    assert len(rules(imported, "DLA147")) == 1


def test_more_bits_of_one_step_are_none(tmp_path):
    text = convolution("a", "data", 4, fixed(4, 4, 7, bits=6), "kernel_size: 1") + convolution(
        "b", "a", 4, fixed(4, 4, 7), "kernel_size: 1"
    )
    blobs = {"a": BLOBS["first"], "b": [weights(4, 4, 1, 1), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert len(steps(imported)) == 3
    assert not rules(imported, "DLA147")


@pytest.mark.parametrize("mode", ["DynamicFixed", "Xilinx"])
def test_an_eltwise_converts_its_result(tmp_path, mode):
    say = fixed if mode == "DynamicFixed" else thresholds
    one, two, three = (4, 5, 3) if mode == "DynamicFixed" else (8, 4, 15)
    text = (
        convolution("a", "data", 4, say(one, two, 7 if mode == "DynamicFixed" else ()))
        + convolution("b", "data", 4, say(one, two, 7 if mode == "DynamicFixed" else ()))
        + named("e", "Eltwise", say(two, three), ["a", "b"])
    )
    blobs = {"a": [weights(4, 3, 3, 3), numbers(4)], "b": [weights(4, 3, 3, 3, seed=3), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs, exact=True).run(x)
    step = float(maps["e"].step)
    np.testing.assert_array_equal(integers(output(imported, data=x), step), maps["e"].q)
    [warned] = rules(imported, "DLA147")
    assert "'e' reads" in warned.message


def test_an_eltwise_reads_two_formats(tmp_path):
    text = (
        convolution("a", "data", 4, fixed(4, 5, 7))
        + convolution("b", "data", 4, fixed(4, 3, 7))
        + named("e", "Eltwise", fixed(4, 4), ["a", "b"])
    )
    blobs = {"a": [weights(4, 3, 3, 3), numbers(4)], "b": [weights(4, 3, 3, 3, seed=3), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    np.testing.assert_array_equal(integers(output(imported, data=x), 1 / 16), maps["e"].q)
    assert len(rules(imported, "DLA147")) == 2


JOINED = {
    "its own": (fixed(2, 2), "", 2),
    "that of its readers": ("", convolution("d", "r", 4, fixed(3, 3, 7), "kernel_size: 1"), 3),
    "the coarsest": ("", "", 4),
    "the coarsest of several readers": (
        "",
        convolution("d", "r", 4, fixed(3, 3, 7), "kernel_size: 1")
        + convolution("e", "r", 4, fixed(2, 2, 7), "kernel_size: 1"),
        4,
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_a_concat_of_two_formats_gets_one(tmp_path, name):
    own, readers, wanted = JOINED[name]
    text = (
        convolution("a", "data", 4, fixed(4, 6, 7), "kernel_size: 1")
        + convolution("b", "data", 4, fixed(4, 4, 7), "kernel_size: 1")
        + named("c", "Concat", own, ["a", "b"])
        + named("r", "ReLU", "", ["c"])
        + readers
    )
    blobs = {
        "a": BLOBS["first"], "b": BLOBS["first"],
        "d": [weights(4, 8, 1, 1), numbers(4)], "e": [weights(4, 8, 1, 1), numbers(4)],
    }  # fmt: skip
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert not imported.diagnostics.errors
    made = grids(imported).get("c", [])
    assert [grid.scalar_step for grid in made] == [2.0**-wanted] * (1 if wanted == 4 else 2)
    warned = [item for item in rules(imported, "DLA147") if item.location.layer == "c"]
    assert len(warned) == len(made)


def test_a_concat_with_a_map_in_floating_point_stays_so(tmp_path):
    text = (
        convolution("a", "data", 4, fixed(4, 6, 7), "kernel_size: 1")
        + named("b", "TanH", "", ["data"])
        + named("c", "Concat", "", ["a", "b"])
    )
    imported = load(tmp_path, text, {"a": BLOBS["first"]}, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-6]


def test_modes_may_be_mixed(tmp_path):
    text = convolution("a", "data", 4, fixed(4, 4, 7), "kernel_size: 1") + convolution(
        "b", "a", 4, thresholds(8, 8, [1] * 4), "kernel_size: 1"
    )
    blobs = {"a": BLOBS["first"], "b": [weights(4, 4, 1, 1), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs, exact=True).run(x)
    found = integers(output(imported, data=x), 8 / 127)
    off = np.abs(found - maps["b"].q)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01  # ties of one step on the other are met in float32
    assert "writes 8 bits with fl 4 and 'b' reads 8 bits with th 8" in str(imported.diagnostics)


def test_the_most_steps_that_exist(tmp_path):
    text = convolution("a", "data", 2, fixed(20, 16, 9), "kernel_size: 1")
    text += convolution("b", "a", 2, fixed(16, 0, -9), "kernel_size: 1")
    x = image(*SHAPE, most=2**-13)
    blobs = {"a": [weights(2, 3, 1, 1), numbers(2) * 2**-12],
             "b": [weights(2, 2, 1, 1) * 2.0**15, np.zeros(2)]}  # fmt: skip
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    assert maps["b"].q.any()
    np.testing.assert_array_equal(integers(output(imported, data=x), 1), maps["b"].q)


def test_ristretto_rounds_bottoms_weights_and_results(tmp_path):
    param = "quantization_param { bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 "
    param += "fl_layer_in: %d fl_layer_out: %d fl_params: 6 }"
    text = (
        convolution("a", "data", 4, param % (4, 5), "kernel_size: 1")
        + convolution("b", "a", 4, param % (3, 8), "kernel_size: 1")
    ).replace("'Convolution'", "'ConvolutionRistretto'")
    blobs = {"a": BLOBS["first"], "b": [weights(4, 4, 1, 1), numbers(4) * 20]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-5, 2.0**-3, 2.0**-8]
    [noted] = rules(imported, "DLA147")
    assert noted.severity is Severity.NOTE  # it is what Ristretto computes
    x = image(*SHAPE)

    def quantised(values, fl):
        return np.clip(away(values * 2.0**fl), -128, 127) * 2.0**-fl

    value = x
    for name, read, written in (("a", 4, 5), ("b", 3, 8)):
        w, b = blobs[name]
        product = np.einsum("oi,nihw->nohw", quantised(w[:, :, 0, 0], 6), quantised(value, read))
        value = quantised(product + quantised(b, 6).reshape(1, -1, 1, 1), written)
    np.testing.assert_array_equal(output(imported, data=x), value)
    assert rules(imported, "DLA148")  # 8 bits of fl 6 end at 2


@pytest.mark.parametrize("between", ["ave", "leaky", "prelu"])
def test_ristretto_rounds_nothing_between_its_layers(tmp_path, between):
    param = "quantization_param { bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 "
    param += "fl_layer_in: %d fl_layer_out: %d fl_params: 6 }"
    text, blobs = {
        "ave": (named("b", "Pooling", AVE, ["a"]), {}),
        "leaky": (named("b", "ReLU", "relu_param { negative_slope: 0.3 }", ["a"]), {}),
        "prelu": (named("b", "PReLU", "", ["a"]), {"b": [np.full(4, 0.3)]}),
    }[between]
    text = convolution("a", "data", 4, param % (4, 3), "kernel_size: 1") + text
    text += convolution("c", "b", 4, param % (7, 4), "kernel_size: 1")
    text = text.replace("'Convolution'", "'ConvolutionRistretto'")
    blobs |= {"a": BLOBS["first"], "c": [weights(4, 4, 1, 1), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-3, 2.0**-7, 2.0**-4]
