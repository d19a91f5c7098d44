"""What precision_param and quantization_param give one layer."""

import struct
from fractions import Fraction

import pytest

from tests.frontends.caffe.precisions import (
    DYNAMIC,
    FIXED,
    TH,
    TH_WEIGHTS,
    WEIGHTS,
    XILINX,
    QFormat,
    conv,
    filters,
    layer,
    of,
    pool,
    product,
    read,
    threshold,
    told,
)


@pytest.mark.parametrize("field", ["precision_param", "quantization_param"])
def test_a_convolution_in_dynamic_fixed_mode(field):
    found = of(conv("c", f"{FIXED} {WEIGHTS}", field=field), "c")
    assert found.mode is DYNAMIC
    assert (found.maps_in, found.maps_out) == (QFormat(8, 4), QFormat(8, 3))
    assert (found.weights, found.bias) == (QFormat(8, 7), QFormat(8, 3))
    assert found.statistics == {}


@pytest.mark.parametrize("field", ["precision_param", "quantization_param"])
def test_a_convolution_in_xilinx_mode(field):
    found = of(conv("c", f"{TH} {TH_WEIGHTS}", field=field), "c")
    assert found.mode is XILINX
    assert (found.maps_in, found.maps_out) == (threshold(2), threshold(4))
    assert (found.weights, found.bias) == (filters("1/2", "1/4"), threshold(4))
    assert found.maps_in.step == Fraction(2, 127)


def test_precision_param_comes_before_quantization_param():
    text = conv("c", f"{FIXED} {WEIGHTS}")
    both = text.replace("precision_param", "quantization_param { bw_layer_in: 6 } precision_param")
    precisions, found = read(both)
    assert precisions["c"].maps_in == QFormat(8, 4)
    assert told(found) == [("warning", "DLA144", "c")]


@pytest.mark.parametrize(
    "kind", ["Convolution", "Deconvolution", "ConvolutionDepthwise", "DepthwiseConvolution"]
)
def test_every_kind_of_convolution_has_weights(kind):
    assert of(conv("c", f"{FIXED} {WEIGHTS}", kind=kind), "c").weights == QFormat(8, 7)
    found = of(conv("c", f"{TH} {TH_WEIGHTS}", kind=kind), "c")
    assert found.weights == filters("1/2", "1/4")


@pytest.mark.parametrize(
    "text",
    [
        pool("x", FIXED),
        layer("x", "Eltwise", ["data", "data"], message=FIXED),
        layer("x", "LRN", "data", message=FIXED),
        layer("x", "Normalize", "data", message=FIXED),
        layer("x", "Concat", ["data", "data"], message=FIXED),
    ],
)
def test_layers_without_weights_have_maps(text):
    found = of(text, "x")
    assert (found.maps_in, found.maps_out) == (QFormat(8, 4), QFormat(8, 3))
    assert (found.weights, found.bias) == (None, None)


def test_thresholds_are_the_float32_that_protobuf_keeps():
    message = TH.replace("th_layer_in: 2", "th_layer_in: 752.14132257")
    kept = struct.unpack("<f", struct.pack("<f", 752.14132257))[0]
    assert kept != 752.14132257
    assert of(pool("p", message), "p").maps_in == threshold(kept)


@pytest.mark.parametrize(("fl_in", "fl_out"), [(-3, -2), (0, 0), (12, 14), (31, 9)])
def test_fractions_may_be_negative_or_wider_than_the_integer(fl_in, fl_out):
    message = f"bw_layer_in: 8 bw_layer_out: 6 fl_layer_in: {fl_in} fl_layer_out: {fl_out}"
    found = of(pool("p", message), "p")
    assert (found.maps_in, found.maps_out) == (QFormat(8, fl_in), QFormat(6, fl_out))
    assert found.maps_in.step == Fraction(2) ** -fl_in


@pytest.mark.parametrize("bits", [2, 4, 6, 8, 16, 32])
@pytest.mark.parametrize("mode", ["fl", "th"])
def test_integers_have_2_to_32_bits(bits, mode):
    message = (FIXED if mode == "fl" else TH).replace("in: 8", f"in: {bits}")
    assert of(pool("p", message), "p").maps_in.bits == bits


@pytest.mark.parametrize("bits", [0, 1, 33, 4_000_000_000])
@pytest.mark.parametrize("message", [f"{FIXED} {WEIGHTS}", f"{TH} {TH_WEIGHTS}"])
@pytest.mark.parametrize("field", ["bw_layer_in", "bw_layer_out", "bw_params"])
def test_other_widths_are_refused_with_their_number(bits, message, field):
    _, found = read(conv("c", message.replace(f"{field}: 8", f"{field}: {bits}")))
    assert told(found) == [("error", "DLA141", "c")]
    [problem] = found.errors
    assert f"{field} is {bits}" in problem.message
    assert problem.help
    assert problem.notes
    assert str(problem.location).startswith("net.prototxt:3 ")


@pytest.mark.parametrize("fraction", [127, -127, 2**31 - 1, -(2**31)])
def test_steps_that_no_file_can_hold_are_refused(fraction):
    _, found = read(pool("p", FIXED.replace("fl_layer_in: 4", f"fl_layer_in: {fraction}")))
    assert told(found) == [("error", "DLA141", "p")]
    assert str(fraction) in found.errors[0].message


@pytest.mark.parametrize("value", ["0", "-0.0", "-1.5", "inf", "-inf", "nan", "1e39", "1e-44"])
@pytest.mark.parametrize("side", ["th_layer_in: 2", "th_layer_out: 4"])
def test_thresholds_are_positive_and_finite(value, side):
    field = side.split(":", maxsplit=1)[0]
    _, found = read(pool("p", TH.replace(side, f"{field}: {value}")))
    assert told(found) == [("error", "DLA141", "p")]
    assert field in found.errors[0].message


@pytest.mark.parametrize("value", ["-1.5", "inf", "nan"])
def test_thresholds_of_filters_are_finite_and_not_negative(value):
    _, found = read(conv("c", f"{TH} bw_params: 8 th_params: 0.5 th_params: {value}"))
    assert told(found) == [("error", "DLA141", "c")]
    assert "th_params[1]" in found.errors[0].message


def test_a_threshold_of_zero_for_a_filter_is_kept_for_its_weights_to_decide():
    found = of(conv("c", f"{TH} bw_params: 8 th_params: 0 th_params: 1"), "c")
    assert found.weights == filters(0, 1)


@pytest.mark.parametrize(("given", "outputs"), [(1, 2), (3, 2), (2, 64)])
def test_there_is_one_threshold_for_each_filter(given, outputs):
    message = f"{TH} bw_params: 8 " + "th_params: 1 " * given
    precisions, found = read(conv("c", message, outputs=outputs))
    assert told(found) == [("error", "DLA141", "c")]
    assert f"{given} th_params for {outputs} filters" in found.errors[0].message
    assert precisions["c"].weights is None


def test_filters_without_thresholds_take_their_largest_magnitude_and_it_is_said():
    precisions, found = read(conv("c", f"{TH} bw_params: 8"))
    assert precisions["c"].weights == filters()
    assert told(found) == [("note", "DLA143", "c")]


def test_six_bits():
    found = of(conv("c", f"{FIXED} {WEIGHTS}".replace(": 8", ": 6")), "c")
    assert (found.maps_in, found.weights, found.bias) == (
        QFormat(6, 4),
        QFormat(6, 7),
        QFormat(6, 3),
    )
    found = of(conv("c", f"{TH} {TH_WEIGHTS}".replace(": 8", ": 6")), "c")
    assert (found.maps_in, found.weights) == (threshold(2, 6), filters("1/2", "1/4", bits=6))


@pytest.mark.parametrize(("fl_out", "legal"), [(10, True), (11, False), (15, False)])
def test_results_have_fewer_bits_behind_the_point_than_sums(fl_out, legal):
    message = "bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 4 fl_params: 7\n"
    precisions, found = read(conv("c", message + f"fl_layer_out: {fl_out}"))
    if legal:
        assert not found.errors
        assert precisions["c"].maps_out == QFormat(8, fl_out)
        return
    [problem] = found.errors
    assert problem.rule == "DLA142"
    for words in (f"{fl_out} bits", "4 + 7", f"by {11 - fl_out}"):
        assert words in problem.message
    assert problem.location.line == 4
    assert "10 or less" in problem.help


def test_the_shift_is_none_of_a_product_that_chaidnn_computes_in_floating_point():
    message = "bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 1 fl_params: 1"
    found = of(product("f", f"{message} fl_layer_out: 6"), "f")
    assert found.maps_out == QFormat(8, 6)


def test_everything_wrong_is_told_in_one_run():
    message = TH.replace("th_layer_in: 2", "th_layer_in: 0").replace("out: 8", "out: 1")
    text = conv("c", f"{message} bw_params: 8 th_params: 1") + pool("p", FIXED.replace("8", "0"))
    _, found = read(text)
    rules = [item.rule for item in found.errors]
    assert rules == ["DLA141"] * 5
    assert {item.location.layer for item in found} >= {"c", "p"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("BatchNorm", ("batchnorm_mean", "batchnorm_variance")),
        ("Scale", ("scale_gamma", "scale_beta", "scale_gamma_by_std")),
    ],
)
def test_statistics_have_formats_of_their_own(kind, names):
    values = {name: QFormat(8 - index, 4 - 5 * index) for index, name in enumerate(names)}
    written = " ".join(f"{k}_bw: {v.bits} {k}_fl: {v.frac}" for k, v in values.items())
    found = of(layer("b", kind, "data", message=f"{FIXED} {written}"), "b")
    assert found.statistics == values
    assert (found.maps_in, found.maps_out) == (QFormat(8, 4), QFormat(8, 3))


@pytest.mark.parametrize("kind", ["BatchNorm", "Scale"])
def test_statistics_have_no_thresholds(kind):
    found = of(layer("b", kind, "data", message=TH), "b")
    assert found.statistics == {}
    assert (found.mode, found.maps_out) == (XILINX, threshold(4))


def test_a_scale_by_another_map_has_no_statistics():
    precisions, found = read(layer("s", "Scale", ["data", "data"], message=FIXED))
    assert precisions["s"].statistics == {}
    assert not len(found)


def test_the_place_is_that_of_the_message():
    found = of(conv("c", f"{FIXED} {WEIGHTS}"), "c")
    assert (found.location.file, found.location.line, found.location.layer) == (
        "net.prototxt",
        3,
        "c",
    )
