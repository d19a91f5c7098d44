"""Which formats are chosen for a network in floating point, against what XportDNN would do."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.diagnostics import Diagnostics
from dlaconv.frontends.caffe.network import layers_of
from dlaconv.frontends.caffe.precision.magnitudes import holding
from dlaconv.frontends.caffe.precision.modes import covering, threshold_of
from dlaconv.frontends.caffe.precision.tying import Ties
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import parse_text
from dlaconv.ir.formats import QFormat, Threshold
from tests.frontends.caffe.files import INPUT, load, numbers
from tests.frontends.caffe.quantised import convolution, in_place, named
from tests.frontends.caffe.test_caffe_emission import BLOBS, SHAPE, Samples, messages, wide

ONE = "kernel_size: 1"


def ties(text, reaches, *, sums=True):
    """The reach of each map together with those that it is tied to.

    A map is a blob, or a blob and how many layers had written to it before.
    """
    net, _ = parse_text(text, caffe_schema(), "NetParameter", "net.prototxt")
    layers = layers_of(net, caffe_schema(), "net.prototxt", Diagnostics())
    keys = {name: name if isinstance(name, tuple) else (name, 0) for name in reaches}
    own = {keys[name]: reach for name, reach in reaches.items()}
    found = Ties(layers, {("data", -1): own.pop(("data", 0)), **own}, sums=sums)
    keys["data"] = ("data", -1)
    return {name: found.reach[found.group(keys[name])] for name in reaches}


def conv(name, bottom, top=None):
    return convolution(name, bottom, 4, "", ONE, top)


def test_a_concat_has_the_threshold_of_its_result_and_gives_it_to_its_bottoms():
    text = conv("a", "data") + conv("b", "data") + named("cat", "Concat", "", ["a", "b"])
    found = ties(text + conv("d", "cat"), {"data": 1, "a": 9, "b": 2, "cat": 5, "d": 3})
    assert found == {"data": 1, "a": 5, "b": 5, "cat": 5, "d": 3}


def test_an_eltwise_has_the_largest_threshold_of_its_bottoms():
    text = conv("a", "data") + conv("b", "data") + named("s", "Eltwise", "", ["a", "b"])
    reaches = {"data": 1, "a": 4, "b": 7, "s": 11}
    assert ties(text, reaches, sums=False) == {"data": 1, "a": 7, "b": 7, "s": 7}
    assert ties(text, reaches) == {"data": 1, "a": 11, "b": 11, "s": 11}
    relu = in_place("r", "ReLU", "s")  # XportDNN measures the blob again there
    found = ties(text + relu, reaches | {("s", 1): 9}, sums=False)
    assert found == {"data": 1, "a": 9, "b": 9, "s": 9, ("s", 1): 9}
    assert ties(text + relu, reaches | {("s", 1): 6}) == found | dict.fromkeys(
        ["a", "b", "s", ("s", 1)], 7
    )


@pytest.mark.parametrize(
    "parameters", ["eltwise_param { operation: PROD }", "eltwise_param { coeff: 1 coeff: -1 }"]
)
def test_products_and_weighted_sums_have_thresholds_of_their_own(parameters):
    text = conv("a", "data") + conv("b", "data") + named("s", "Eltwise", parameters, ["a", "b"])
    reaches = {"data": 1.0, "a": 4.0, "b": 7.0, "s": 11.0}
    assert ties(text, reaches) == reaches


def test_a_trunk_of_sums_has_one_threshold_throughout():
    text = conv("a", "data")
    for index, before in enumerate(("a", "s0", "s1")):
        text += conv(f"b{index}", before) + named(f"s{index}", "Eltwise", "", [before, f"b{index}"])
        text += in_place(f"r{index}", "ReLU", f"s{index}")
    reaches = {"data": 1, "a": 2, "b0": 3, ("s0", 1): 4, "b1": 9, ("s1", 1): 8, "b2": 5}
    found = ties(text, reaches)
    assert found.pop("data") == 1
    assert set(found.values()) == {9}


@pytest.mark.parametrize("kind", ["Pooling", "LRN", "Dropout", "Permute", "Slice"])
def test_what_pools_or_moves_keeps_the_threshold_of_what_it_reads(kind):
    text = conv("a", "data") + named("p", kind, "", ["a"]) + conv("b", "p")
    reaches = {"data": 1, "a": 4, "p": 3, "b": 2}
    assert ties(text, reaches) == reaches | {"p": 4}


def test_both_tops_of_a_split_have_the_threshold_of_its_bottom():
    text = conv("a", "data") + named("s", "Split", "", ["a"], ["x", "y"])
    assert ties(text, {"data": 1, "a": 4, "x": 4, "y": 3}) == {"data": 1, "a": 4, "x": 4, "y": 4}


def test_a_relu_decides_for_the_layer_before_it_alone():
    text = conv("a", "data", top="x") + named("r", "ReLU", "", ["x"])
    reaches = {"data": 1, "x": 9, "r": 4}
    assert ties(text, reaches) == {"data": 1, "x": 4, "r": 4}
    assert ties(text + conv("b", "x"), reaches) == {"data": 1, "x": 9, "r": 9}
    leaky = text.replace("'ReLU'", "'ReLU' relu_param { negative_slope: 0.1 }")
    assert ties(leaky, reaches) == {"data": 1, "x": 9, "r": 9}
    assert ties(text.replace("'ReLU'", "'PReLU'"), reaches) == {"data": 1, "x": 9, "r": 9}
    assert ties(text.replace("'ReLU'", "'Sigmoid'"), reaches) == reaches


def test_a_blob_has_a_threshold_for_each_value_that_layers_in_place_give_it():
    text = conv("a", "data") + in_place("n", "BatchNorm", "a") + in_place("r", "ReLU", "a")
    reaches = {"data": 1, "a": 50, ("a", 1): 5, ("a", 2): 4}
    assert ties(text, reaches) == reaches | {("a", 1): 4}
    dropped = text + in_place("d", "Dropout", "a") + conv("b", "a")
    reaches = reaches | {("a", 3): 3, "b": 2}
    assert ties(dropped, reaches) == reaches | {("a", 1): 4, ("a", 3): 4}


def test_batch_norm_and_scale_decide_for_their_convolution():
    text = conv("a", "data") + named("n", "BatchNorm", "", ["a"]) + named("s", "Scale", "", ["n"])
    reaches = {"data": 1, "a": 50, "n": 20, "s": 4}
    assert ties(text, reaches) == {"data": 1, "a": 4, "n": 4, "s": 4}
    alone = conv("a", "data") + named("n", "BatchNorm", "", ["a"])
    assert ties(alone, {"data": 1, "a": 50, "n": 20}) == {"data": 1, "a": 50, "n": 20}


def test_thresholds_are_those_of_a_network_with_rounded_weights(tmp_path):
    text = INPUT.format("dim: 1 dim: 2 dim: 4 dim: 4")
    text += convolution("c", "data", 1, "", f"{ONE} bias_term: false")
    blobs = {"c": [np.float32([3.0, 0.011]).reshape(1, 2, 1, 1)]}  # 0.011 is less than half a unit
    data = np.float32([1, 200]).reshape(1, 2, 1, 1) * np.ones((1, 2, 4, 4), np.float32)
    path = tmp_path / "out.prototxt"
    for samples, wanted in ((data, (200, 3)), (0 * data, (1, 1))):
        calibration = Samples(samples)
        imported = load(tmp_path, text, blobs, emit_prototxt=path, calibration=calibration)
        found = messages(imported.files[path])["c"]
        assert (found.number("th_layer_in"), found.number("th_layer_out")) == wanted


def test_a_result_leaves_sums_a_shift(tmp_path):
    text = INPUT.format(SHAPE) + conv("c", "data") + conv("d", "c")
    weights = np.tile(np.float32([1, -1, 0, 0]), 4).reshape(4, 4, 1, 1)
    blobs = {"c": [weights, np.full(4, 1e-4)], "d": [weights, np.full(4, 1e-9)]}
    path = tmp_path / "out.prototxt"
    imported = load(
        tmp_path,
        text,
        blobs,
        emit_prototxt=path,
        quant_type="DynamicFixed",
        calibration=Samples(np.ones((1, 4, 8, 8), np.float32)),
    )
    assert not imported.diagnostics.errors
    found = messages(imported.files[path])
    formats = [[found[n].integer(f"fl_{side}") for side in ("layer_in", "params", "layer_out")]
               for n in "cd"]  # fmt: skip
    assert formats == [[6, 7, 12], [12, 7, 18]]


@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(2, 16))
def test_a_threshold_gets_the_smallest_range_that_holds_it(threshold, bits):
    found = covering(Threshold(bits, Fraction(threshold)))
    top = (1 << (bits - 1)) - 1
    assert found.bits == bits
    assert top * found.step >= Fraction(threshold) > top * found.step / 2


@given(st.integers(2, 16), st.integers(-30, 30))
def test_a_power_of_two_and_its_threshold_are_each_others(bits, fraction):
    form = QFormat(bits, fraction)
    assert threshold_of(form).step == form.step
    assert covering(threshold_of(form)) == form


@given(st.floats(1e-30, 1e30), st.integers(2, 16))
def test_weights_get_bits_before_the_point_as_chaidnn_counts_them(largest, bits):
    found = holding(largest, bits)
    assert found.frac == bits - 1 - int(np.ceil(np.log2(largest))) or np.log2(largest) % 1 > 0.999
    assert largest / 2 < 2.0 ** (bits - 1 - found.frac) / 1 < 2 * largest * (1 + 1e-12)


@pytest.mark.parametrize("largest", [0.0, float("inf"), float("nan")])
def test_no_magnitude_is_no_reason_to_fail(largest):
    assert holding(largest, 8) == QFormat(8, 7)


def test_statistics_of_a_lonely_batch_norm_have_formats_that_hold_them(tmp_path):
    text = (
        INPUT.format(SHAPE)
        + named("norm", "BatchNorm", "", ["data"])
        + named("scaled", "Scale", "scale_param { bias_term: true }", ["norm"])
        + conv("c", "scaled")
    )
    blobs = {
        "norm": [np.float32([6, 1, 1, 1]), np.float32([64, 4, 4, 4]), np.float32([2])],
        "scaled": [np.float32([4, 1, 1, 1]), np.float32([0.3, 0.1, 0, 0])],
        "c": [BLOBS["c"][0][:, :, :1, :1], BLOBS["c"][1]],
    }
    path = tmp_path / "out.prototxt"
    imported = load(
        tmp_path,
        text,
        blobs,
        emit_prototxt=path,
        quant_type="DynamicFixed",
        calibration=Samples(numbers(2, 4, 8, 8)),
    )
    assert not imported.diagnostics.errors
    found = messages(imported.files[path])
    norm, scale = found["norm"], found["scaled"]
    assert norm.integer("batchnorm_mean_fl") == 7 - 2  # 3 needs two bits
    assert norm.integer("batchnorm_variance_fl") == 7 - 5  # 32
    assert scale.integer("scale_gamma_fl") == 7 - 2
    assert scale.integer("scale_beta_fl") == 7 + 1
    assert scale.integer("scale_gamma_by_std_fl") == 7 - 0  # 4 / sqrt(32), 1 / sqrt(2)
    assert {norm.integer("batchnorm_mean_bw"), scale.integer("scale_beta_bw")} == {8}


def test_each_filter_has_its_largest_magnitude_wherever_it_lies(tmp_path):
    path = tmp_path / "out.prototxt"
    samples = Samples(numbers(2, 4, 8, 8))
    imported = load(tmp_path, wide(), BLOBS, emit_prototxt=path, calibration=samples)
    found = {
        name: item.numbers("th_params") for name, item in messages(imported.files[path]).items()
    }
    convolution, transposed, product = (np.abs(BLOBS[name][0]) for name in ("d", "up", "f"))
    assert found["d"] == pytest.approx(convolution.max(axis=(1, 2, 3)), rel=1e-7)
    groups = [transposed[:4].max(), transposed[4:].max()]  # of 8 inputs and 2 outputs
    assert found["up"] == pytest.approx(groups, rel=1e-7)
    assert found["f"] == pytest.approx(product.max(axis=0), rel=1e-7)  # stored transposed
