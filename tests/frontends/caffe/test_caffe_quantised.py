"""Formats around layers: what is read, what is written, weights and biases."""

import numpy as np
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.rounding import Rounding
from tests.frontends.caffe.files import numbers, output, run
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

SHAPE = (1, 3, 13, 13)


def spread(*shape, seed=0, most=8.0):
    return np.random.default_rng(seed).uniform(-most, most, shape).astype(np.float32)


def test_a_network_in_dynamic_fixed_mode_equals_integers(tmp_path):
    text = (
        convolution("a", "data", 8, fixed(4, 4, 7))
        + in_place("r", "ReLU", "a")
        + named("p", "Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", ["a"])
        + convolution("b", "p", 6, fixed(4, 3, 6), "kernel_size: 3 group: 2")
        + convolution("c", "p", 6, fixed(4, 3, 5), "kernel_size: 3 bias_term: false")
        + named("e", "Eltwise", fixed(3, 3), ["b", "c"])
        + named(
            "m", "Pooling", f"pooling_param {{ pool: AVE kernel_size: 2 }} {fixed(3, 4)}", ["e"]
        )
    )
    blobs = {
        "a": [numbers(8, 3, 3, 3) / 6, numbers(8, seed=1)],
        "b": [numbers(6, 4, 3, 3, seed=2) / 6, numbers(6, seed=3) * 4],
        "c": [numbers(6, 8, 3, 3, seed=4) / 6],
    }
    x = spread(*SHAPE)
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    found = output(imported, data=x)
    np.testing.assert_array_equal(integers(found, 2.0**-4), maps["m"].q)
    assert np.unique(found).size > 20  # a network of zeros would pass otherwise


def test_a_network_in_xilinx_mode_equals_integers(tmp_path):
    w, b = numbers(8, 3, 3, 3) / 3, numbers(8, seed=1) * 3
    th = np.abs(w).reshape(8, -1).max(1) * np.linspace(0.6, 1.3, 8)
    text = convolution("a", "data", 8, thresholds(7.3, 11.9, th)) + in_place("r", "ReLU", "a")
    x = spread(*SHAPE)
    imported = load(tmp_path, text, {"a": [w, b]}, shape=SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", {"a": [w, b]}, exact=True).run(x)
    np.testing.assert_array_equal(integers(output(imported, data=x), 11.9 / 127), maps["a"].q)


def test_everything_rounds_halves_away_from_zero(tmp_path):
    imported = load(
        tmp_path,
        convolution("a", "data", 2, fixed(4, 4, 7)),
        {"a": [numbers(2, 3, 3, 3), numbers(2)]},
        shape=SHAPE,
    )
    nodes = [node for node in imported.model.graph if dialect.is_quantize(node)]
    assert len(nodes) == 3  # image, weights, result
    assert {dialect.rounding_of(node) for node in nodes} == {Rounding.HALF_AWAY}


def test_an_image_ends_at_its_threshold_but_results_saturate_below(tmp_path):
    w = np.ones((1, 1, 1, 1), np.float32)
    text = "".join(
        convolution(name, "data", 1, thresholds(127, th, [1]), "kernel_size: 1 bias_term: false")
        for name, th in (("a", 12.7), ("b", 254))
    )
    imported = load(tmp_path, text, {"a": [w], "b": [w]}, shape=(1, 1, 1, 3))
    x = np.array([[[[-500, -5, 500]]]], np.float32)
    found = run(imported, data=x)
    np.testing.assert_array_equal(integers(found["a"], 0.1), [[[[-128, -50, 127]]]])
    np.testing.assert_array_equal(integers(found["b"], 2), [[[[-64, -3, 64]]]])  # 63.5 from 127
    assert len(steps(imported)) == 3


@pytest.mark.parametrize(
    ("fl", "weight", "wanted"),
    [(7, 2.0, 127), (7, -2.0, -128), (7, 1.5 / 128, 2), (7, -1.5 / 128, -2), (-3, 100.0, 13),
     (12, 0.01, 41)],
)  # fmt: skip
def test_weights_in_q_format(tmp_path, fl, weight, wanted):
    w = np.full((1, 1, 1, 1), weight, np.float32)
    text = convolution("a", "data", 1, fixed(4, -6, fl), "kernel_size: 1 bias_term: false")
    imported = load(tmp_path, text, {"a": [w]}, shape=(1, 1, 1, 1))
    [node] = [n for n in imported.model.graph if n.inputs[0].name == "a/weights"]
    made = dialect.quantisation_of(node)
    assert made.integers(w).item() == wanted
    assert made.scalar_step == 2.0**-fl


def test_filters_without_thresholds_have_their_largest_magnitude(tmp_path):
    w = numbers(4, 3, 3, 3)
    imported = load(
        tmp_path, convolution("a", "data", 4, thresholds(8, 8)), {"a": [w, numbers(4)]}, shape=SHAPE
    )
    [node] = [n for n in imported.model.graph if n.inputs[0].name == "a/weights"]
    integers_ = dialect.quantisation_of(node).integers(w)
    np.testing.assert_array_equal(np.abs(integers_).reshape(4, -1).max(1), 127)


@pytest.mark.parametrize("transpose", [False, True])
def test_thresholds_of_an_inner_product_are_those_of_its_outputs(tmp_path, transpose):
    w, th = numbers(5, 12), np.linspace(1, 3, 5)
    param = f"inner_product_param {{ num_output: 5 bias_term: false transpose: {transpose} }}"
    text = named("f", "InnerProduct", f"{param.lower()} {thresholds(8, 40, th)}")
    stored = w.T if transpose else w
    imported = load(tmp_path, text, {"f": [stored]}, shape=(1, 12))
    x = spread(1, 12)
    q = away(np.clip(x, -8, 8) / (8 / 127))
    wanted = q @ np.clip(away(w / (th / 127)[:, None]), -127, 127).T * (th / 127) * (8 / 127)
    step = 40 / 127
    np.testing.assert_array_equal(integers(output(imported, data=x), step), away(wanted / step))


@pytest.mark.parametrize("group", [1, 2])
def test_thresholds_of_a_deconvolution_are_those_of_its_outputs(tmp_path, group):
    outputs = 6
    w, th = numbers(4, outputs // group, 2, 2), np.linspace(1, 3, outputs)
    param = f"convolution_param {{ num_output: 6 kernel_size: 2 bias_term: false group: {group} }}"
    text = named("d", "Deconvolution", f"{param} {thresholds(8, 90, th)}")
    imported = load(tmp_path, text, {"d": [w]}, shape=(1, 4, 1, 1))
    x = spread(1, 4, 1, 1)
    q = away(np.clip(x, -8, 8) / (8 / 127)).reshape(group, -1)
    step = th.reshape(group, 1, -1, 1, 1) / 127
    weights = w.reshape(group, 4 // group, outputs // group, 2, 2)
    rounded = np.clip(away(weights / step), -127, 127) * step
    wanted = np.einsum("gc,gcokl->gokl", q, rounded).reshape(1, outputs, 2, 2) * (8 / 127)
    found = integers(output(imported, data=x), 90 / 127)
    np.testing.assert_array_equal(found, away(wanted / (90 / 127)))


def test_a_filter_of_zeros_may_have_a_threshold_of_zero(tmp_path):
    w = numbers(2, 3, 1, 1)
    w[1] = 0
    text = convolution("a", "data", 2, thresholds(8, 8, [1, 0]), "kernel_size: 1 bias_term: false")
    imported = load(tmp_path, text, {"a": [w]}, shape=SHAPE)
    found = output(imported, data=spread(*SHAPE))
    assert found[:, 0].any()
    assert not found[:, 1].any()


def test_a_threshold_of_zero_for_weights_is_refused(tmp_path):
    w = numbers(2, 3, 1, 1)
    text = convolution("a", "data", 2, thresholds(8, 8, [1, 0]), "kernel_size: 1 bias_term: false")
    imported = load(tmp_path, text, {"a": [w]}, shape=SHAPE)
    [found] = imported.diagnostics.errors
    assert found.rule == "DLA151"
    assert f"such as 1 with weights up to {np.abs(w[1]).max():.6g}" in found.message


def test_a_bias_has_the_format_of_the_result(tmp_path):
    b = np.array([0.3, -0.31, 7.96, -9, 0.03125], np.float32)
    text = convolution("a", "data", 5, fixed(4, 4, 7), "kernel_size: 1")
    imported = load(tmp_path, text, {"a": [np.zeros((5, 3, 1, 1)), b]}, shape=SHAPE)
    found = output(imported, data=spread(*SHAPE))[0, :, 0, 0] * 16
    np.testing.assert_array_equal(found, [5, -5, 127, -128, 1])
    [warned] = rules(imported, "DLA148")
    assert "1 of 5 channels saturates: -9 of channel 3 becomes -8" in warned.message


def test_a_bias_of_xilinx_mode_ends_at_the_threshold(tmp_path):
    b = np.array([900, -900, 100], np.float32)
    text = convolution("a", "data", 3, thresholds(150, 752, [1] * 3), "kernel_size: 1")
    imported = load(tmp_path, text, {"a": [np.zeros((3, 3, 1, 1)), b]}, shape=SHAPE)
    found = output(imported, data=spread(*SHAPE))[0, :, 0, 0]
    np.testing.assert_array_equal(integers(found, 752 / 127), [127, -127, 17])
    assert "2 of 3 channels" in rules(imported, "DLA148")[0].message


def test_a_bias_saturates_at_16_bits_of_the_sum(tmp_path):
    text = convolution("a", "data", 1, fixed(7, 2, 7), "kernel_size: 1")
    b = np.array([30], np.float32)
    imported = load(tmp_path, text, {"a": [np.zeros((1, 3, 1, 1)), b]}, shape=SHAPE)
    # 30 is 491520 units of 2^-14, of which 16 bits hold 32767: almost 2
    assert output(imported, data=spread(*SHAPE)).max() == 2.0
    assert "30 of channel 0 becomes 1.99994" in rules(imported, "DLA148")[0].message


def test_the_values_between_two_layers_are_rounded_once(tmp_path):
    text = convolution("a", "data", 4, fixed(4, 5, 7)) + convolution("b", "a", 4, fixed(5, 3, 7))
    blobs = {"a": [numbers(4, 3, 3, 3), numbers(4)], "b": [numbers(4, 4, 3, 3), numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-5, 2.0**-3]
    assert not rules(imported, "DLA147")


def test_layers_that_share_weights_round_each_for_itself(tmp_path):
    text = convolution("a", "data", 3, fixed(4, 4, 7), "kernel_size: 1 bias_term: false").replace(
        "convolution_param", "param { name: 'w' } convolution_param"
    ) + convolution("b", "a", 3, fixed(4, 4, 3), "kernel_size: 1 bias_term: false").replace(
        "convolution_param", "param { name: 'w' } convolution_param"
    )
    w = numbers(3, 3, 1, 1) / 4
    imported = load(tmp_path, text, {"a": [w]}, shape=SHAPE)
    x = spread(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", {"a": [w], "b": [w]}).run(x)
    np.testing.assert_array_equal(integers(output(imported, data=x), 2.0**-4), maps["b"].q)


def test_a_layer_without_precision_is_in_floating_point(tmp_path):
    text = convolution("a", "data", 4, fixed(4, 4, 7)) + named(
        "f", "InnerProduct", "inner_product_param { num_output: 3 }", ["a"]
    )
    w = numbers(3, 4 * 169) / 9
    blobs = {"a": [numbers(4, 3, 3, 3) / 3, numbers(4)], "f": [w, numbers(3, seed=2)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-4]
    x = spread(*SHAPE)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    wanted = maps["a"].q.reshape(1, -1) / 16 @ w.T + blobs["f"][1]
    np.testing.assert_allclose(output(imported, data=x), wanted, rtol=1e-4)


@pytest.mark.parametrize("bits", [6, 16])
def test_other_widths(tmp_path, bits):
    text = convolution("a", "data", 4, fixed(2, 2, 5, bits=bits))
    blobs = {"a": [numbers(4, 3, 3, 3) / 2, numbers(4)]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = spread(*SHAPE, most=20)
    maps = IntegerModel(tmp_path / "net.prototxt", blobs).run(x)
    found = integers(output(imported, data=x), 0.25)
    np.testing.assert_array_equal(found, maps["a"].q)
    end = 1 << (bits - 1)
    assert bits == 16 or (found.min(), found.max()) == (-end, end - 1)
    assert [(g.qmin, g.qmax) for g in grids(imported)["a"]] == [(-end, end - 1)]
