"""What a prototxt leaves out, and what it says where nobody reads it."""

import pytest

from dlaconv.diagnostics import Severity
from tests.frontends.caffe.precisions import (
    DYNAMIC,
    FIXED,
    RISTRETTO,
    TH,
    TH_WEIGHTS,
    WEIGHTS,
    XILINX,
    QFormat,
    conv,
    filters,
    layer,
    pool,
    product,
    read,
    threshold,
    told,
)

WHOLE = f"{FIXED} {WEIGHTS}"
DATA = layer("data", "Input", [], message="bw_layer_out: 8 fl_layer_out: 99")


def test_a_network_in_floating_point_has_no_precision():
    precisions, found = read(conv() + pool(bottom="c") + product(bottom="p"))
    assert set(precisions.values()) == {None}
    assert not len(found)


def test_missing_fields_have_chaidnns_defaults_and_one_warning():
    precisions, found = read(conv("c", "bw_layer_in: 8"))
    only = precisions["c"]
    assert (only.maps_in, only.maps_out) == (QFormat(8, 3), QFormat(6, 3))
    assert (only.weights, only.bias) == (QFormat(6, 5), QFormat(6, 3))
    [item] = found
    assert (item.severity, item.rule) == (Severity.WARNING, "DLA143")
    for field in ("fl_layer_in=3", "bw_layer_out=6", "fl_layer_out=3", "bw_params=6"):
        assert field in item.message
    assert "fl_params=5" in item.message
    assert "bw_layer_in" not in item.message
    assert any("-4 to 3.875" in note for note in item.notes)


def test_missing_thresholds_have_chaidnns_default():
    precisions, found = read(pool("p", "quant_type: 'Xilinx' th_layer_in: 2"))
    assert precisions["p"].maps_in == threshold(2, 6)
    assert precisions["p"].maps_out == threshold(16, 6)
    assert told(found) == [("warning", "DLA143", "p")]
    assert "th_layer_out=16" in next(iter(found)).message


def test_thresholds_without_their_quant_type_are_noticed():
    _, found = read(pool("p", TH.replace("quant_type: 'Xilinx'", "")))
    [item] = found
    assert "fl_layer_in=3" in item.message
    assert 'quant_type: "Xilinx"' in item.help


@pytest.mark.parametrize(
    ("kind", "fields"), [("BatchNorm", 2), ("Scale", 3)], ids=["BatchNorm", "Scale"]
)
def test_missing_statistics_have_chaidnns_defaults(kind, fields):
    precisions, found = read(layer("b", kind, "data", message=FIXED))
    assert list(precisions["b"].statistics.values()) == [QFormat(6, 3)] * fields
    [item] = found
    assert item.message.count("_bw=6") == item.message.count("_fl=3") == fields


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("other", [WHOLE, f"{TH} {TH_WEIGHTS}"])
def test_a_convolution_without_a_message_has_all_defaults(kind, other):
    precisions, found = read(conv("a", other) + conv("b", bottom="a", kind=kind))
    assert precisions["b"].mode is DYNAMIC
    assert precisions["b"].weights == QFormat(6, 5)
    assert told(found) == [("warning", "DLA143", "b")]
    assert "precision_param is missing (DynamicFixed)" in next(iter(found)).message
    assert next(iter(found)).location.line == 4


@pytest.mark.parametrize(
    "text", [pool("x", bottom="c"), layer("x", "Eltwise", ["c", "c"])], ids=["Pooling", "Eltwise"]
)
def test_what_has_no_weights_and_no_message_gets_no_format(text):
    precisions, found = read(conv("c", WHOLE) + text)
    assert precisions["x"] is None
    assert told(found) == [("warning", "DLA143", "x")]
    assert "same as that of the layer before" in next(iter(found)).help


def test_nothing_is_asked_of_a_layer_that_chaidnn_does_not_have():
    precisions, found = read(conv("c", WHOLE) + layer("x", "LRN", "c"))
    assert precisions["x"] is None
    assert not len(found)


UNFOLDED = {
    "alone": ("data", ""),
    "read twice": ("c", layer("r", "ReLU", "c")),
}


@pytest.mark.parametrize("name", UNFOLDED)
def test_a_batch_norm_without_a_message_has_defaults_where_it_is_computed(name):
    bottom, more = UNFOLDED[name]
    text = conv("c", WHOLE) + layer("b", "BatchNorm", bottom) + layer("s", "Scale", "b") + more
    precisions, found = read(text)
    assert precisions["b"].statistics["batchnorm_mean"] == QFormat(6, 3)
    assert precisions["s"].statistics["scale_beta"] == QFormat(6, 3)
    assert told(found) == [("warning", "DLA143", "b"), ("warning", "DLA143", "s")]


@pytest.mark.parametrize("message", [None, FIXED])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_convolution_takes_statistics_along(message, in_place):
    names = ("c", "c", "c") if in_place else ("c", "b", "s")
    text = conv("c", WHOLE.replace("fl_layer_out: 3", "fl_layer_out: 11"), top=names[0])
    text += layer("b", "BatchNorm", names[0], message=message, top=names[1])
    text += layer("s", "Scale", names[1], message=message, top=names[2])
    precisions, found = read(text)
    assert not found.errors, "its fl_params are worked out anew, so there is no shift to speak of"
    assert told(found) == ([("warning", "DLA143", "s")] if message is None else [])
    for name in "bs":
        assert (precisions[name] is None) == (message is None)
        assert message is None or precisions[name].statistics == {}
    assert precisions["c"].maps_out == QFormat(8, 11)


def test_a_batch_norm_without_a_scale_is_not_taken_along():
    text = conv("c", WHOLE) + layer("b", "BatchNorm", "c")
    assert told(read(text)[1]) == [("warning", "DLA143", "b")]


def test_a_product_has_what_is_written_and_nothing_else():
    text = conv("c", WHOLE) + product("f", "bw_layer_in: 8 fl_layer_in: 4", bottom="c")
    text += product("g", "bw_params: 8 fl_params: 7", bottom="f") + product("h", bottom="g")
    precisions, found = read(text)
    assert (precisions["f"].maps_in, precisions["f"].maps_out) == (QFormat(8, 4), None)
    assert (precisions["f"].weights, precisions["f"].bias) == (None, None)
    assert (precisions["g"].maps_in, precisions["g"].weights) == (None, QFormat(8, 7))
    assert precisions["h"] is None
    assert told(found) == [("note", "DLA144", "f")]
    message = next(iter(found)).message
    assert "quantised as written: 'f' (InnerProduct), 'g' (InnerProduct)" in message
    assert "without precision: 'h' (InnerProduct)" in message


def test_half_a_format_of_a_product_has_the_other_half_by_default():
    precisions, found = read(product("f", "bw_layer_in: 8 th_params: 1 quant_type: 'Xilinx'"))
    assert precisions["f"].maps_in == threshold(16)
    assert told(found) == [
        ("error", "DLA141", "f"),
        ("warning", "DLA143", "f"),
        ("note", "DLA144", "f"),
    ]
    assert "1 th_params for 2 filters" in found.errors[0].message


def test_a_product_with_thresholds():
    precisions, _ = read(product("f", f"{TH} {TH_WEIGHTS}"))
    assert precisions["f"].weights == filters("1/2", "1/4")
    assert precisions["f"].bias == threshold(4)


@pytest.mark.parametrize("kind", ["ReLU", "Softmax", "Dropout", "Flatten", "Split", "Reshape"])
def test_a_message_without_effect_is_noted(kind):
    precisions, found = read(DATA + conv("c", WHOLE) + layer("x", kind, "c", message=TH))
    assert (precisions["x"], precisions["data"]) == (None, None)
    assert told(found) == [("note", "DLA144", "x")]
    assert f"'x' ({kind})" in next(iter(found)).message


def test_maximum_pooling_keeps_the_format_that_it_reads():
    precisions, found = read(conv("c", WHOLE) + pool("p", TH, method="MAX", bottom="c"))
    assert precisions["p"] is None
    assert told(found) == [("note", "DLA144", "p")]
    assert not len(read(conv("c", WHOLE) + pool("p", method="MAX", bottom="c"))[1])


def test_one_note_names_all_messages_without_effect():
    text = conv("c", WHOLE) + "".join(layer(f"r{n}", "ReLU", "c", message=TH) for n in range(8))
    _, found = read(text)
    [item] = found
    assert "'r4' (ReLU) and 3 more" in item.message


def test_a_precision_of_the_input_alone_quantises_nothing():
    precisions, found = read(DATA + conv("c"))
    assert set(precisions.values()) == {None}
    assert told(found) == [("warning", "DLA144", "data")]


def test_maps_of_a_concat_are_those_that_are_written():
    text = layer("x", "Concat", ["data", "data"], message="bw_layer_out: 8 fl_layer_out: 2")
    precisions, found = read(text)
    assert (precisions["x"].maps_in, precisions["x"].maps_out) == (None, QFormat(8, 2))
    assert not len(found)
    assert not len(read(conv("c", WHOLE) + layer("x", "Concat", ["c", "c"]))[1])


@pytest.mark.parametrize("text", ["xilinx", "Dynamic", "8bit"])
def test_another_quant_type_is_refused(text):
    precisions, found = read(pool("p", FIXED + f"\nquant_type: '{text}'"))
    assert precisions["p"] is None
    assert told(found) == [("error", "DLA140", "p")]
    assert repr(text) in found.errors[0].message
    assert found.errors[0].location.line == 4
    assert ('write quant_type: "Xilinx"' in found.errors[0].help) == (text == "xilinx")


def test_an_empty_quant_type_is_dynamic_fixed():
    assert read(pool("p", FIXED + " quant_type: ''"))[0]["p"].mode is DYNAMIC


def test_several_quant_types_are_read_with_one_warning():
    text = pool("a", FIXED) + pool("b", TH, bottom="a") + pool("c", TH, bottom="b")
    precisions, found = read(text)
    assert [precisions[name].mode for name in "abc"] == [DYNAMIC, XILINX, XILINX]
    assert told(found) == [("warning", "DLA140", "b")]
    assert "1 of DynamicFixed, 2 of Xilinx" in next(iter(found)).message


@pytest.mark.parametrize("broken", [False, True])
def test_findings_of_many_layers_are_summed_up(broken):
    lacking = "".join(conv(f"c{n}", WHOLE.replace("fl_params: 7", "")) for n in range(60))
    last = conv("last", "bw_layer_in: 0") if broken else ""
    precisions, found = read(lacking + last)
    assert all(item is not None for item in precisions.values())
    assert len(found) == 51
    assert len(found.errors) == broken
    final = list(found)[-1]
    assert f"and {10 + broken} more layers" in final.message
    assert ("bw_layer_in is 0" in final.message) == broken


RIST = {
    "ConvolutionRistretto": "Convolution",
    "DeconvolutionRistretto": "Deconvolution",
    "FcRistretto": "InnerProduct",
    "LRNRistretto": "LRN",
    "EltwiseRistretto": "Eltwise",
    "NormalizeRistretto": "Normalize",
    "BatchNormRistretto": "BatchNorm",
    "ScaleRistretto": "Scale",
}


def ristretto(kind, message, field="quantization_param"):
    if kind == "FcRistretto":
        return product("x", message, kind=kind, field=field)
    if "onvolution" in kind:
        return conv("x", message, kind=kind, field=field)
    return layer("x", kind, "data", message=message, field=field)


@pytest.mark.parametrize("kind", RIST)
def test_ristretto_has_defaults_of_its_own(kind):
    precisions, found = read(ristretto(kind, "bw_layer_in: 8 fl_layer_in: 24"))
    only = precisions["x"]
    assert only.mode is RISTRETTO
    assert (only.maps_in, only.maps_out) == (QFormat(8, 24), QFormat(32, 16))
    weighted = RIST[kind] in {"Convolution", "Deconvolution", "InnerProduct"}
    assert (only.weights, only.bias) == ((QFormat(32, 16),) * 2 if weighted else (None, None))
    assert set(only.statistics.values()) <= {QFormat(32, 16)}
    assert told(found) == [("note", "DLA143", "x")]


def test_ristretto_has_biases_in_the_format_of_weights():
    written = "bw_layer_in: 8 bw_layer_out: 8 fl_layer_in: 4 fl_layer_out: 3"
    precisions, found = read(ristretto("ConvolutionRistretto", f"{written} {WEIGHTS}"))
    assert precisions["x"].bias == QFormat(8, 7)
    assert not len(found)


def test_ristretto_simulates_so_there_is_no_shift():
    message = "bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 0 fl_params: 0"
    _, found = read(ristretto("ConvolutionRistretto", f"{message} fl_layer_out: 5"))
    assert not len(found)


@pytest.mark.parametrize("kind", RIST)
def test_ristrettos_types_may_have_chaidnns_messages(kind):
    precisions, _ = read(ristretto(kind, "bw_layer_in: 8", field="precision_param"))
    assert precisions["x"].mode is DYNAMIC
    precisions, _ = read(ristretto(kind, "quant_type: 'Xilinx' bw_layer_in: 8"))
    assert precisions["x"].mode is XILINX


def test_a_layer_of_ristretto_without_a_message():
    text = conv("x", kind="ConvolutionRistretto")
    assert read(text)[0]["x"].maps_in == QFormat(32, 16)
    beside = read(text + conv("c", WHOLE, bottom="x"))[0]["x"]
    assert (beside.mode, beside.maps_in) == (DYNAMIC, QFormat(6, 3))


def test_ristretto_leaves_other_layers_in_floating_point():
    text = ristretto("ConvolutionRistretto", "bw_layer_in: 8") + conv("c", bottom="x")
    text += pool("p", bottom="c") + product("f", bottom="p")
    precisions, found = read(text)
    assert [precisions[name] for name in "cpf"] == [None, None, None]
    assert told(found) == [("note", "DLA143", "x"), ("note", "DLA144", "c")]
    assert "'c' (Convolution), 'f' (InnerProduct)" in list(found)[1].message


@pytest.mark.parametrize(
    "words",
    [
        "precision: MINIFLOAT",
        "precision: INTEGER_POWER_OF_2_WEIGHTS",
        "rounding_scheme: STOCHASTIC",
    ],
)
@pytest.mark.parametrize("kind", ["Convolution", "ConvolutionRistretto"])
def test_other_arithmetic_is_refused_by_name(words, kind):
    precisions, found = read(conv("x", f"{FIXED} {WEIGHTS} {words}", kind=kind, field=PARAM))
    assert precisions["x"] is None
    assert [item.rule for item in found.errors] == ["DLA131"]
    assert words in found.errors[0].message


PARAM = "quantization_param"


def test_ristrettos_fields_mean_ristretto_in_any_layer():
    message = f"precision: DYNAMIC_FIXED_POINT {FIXED} {WEIGHTS}"
    precisions, found = read(conv("x", message, field=PARAM))
    assert precisions["x"].mode is RISTRETTO
    assert not len(found)
