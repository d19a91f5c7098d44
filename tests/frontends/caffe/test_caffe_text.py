"""The text format, read against the schema."""

import pytest

from dlaconv.errors import UnreadableError
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import MOST_VALUES, parse_text


def read(text, **options):
    return parse_text(text, caffe_schema(), "NetParameter", "net.prototxt", **options)


def net(text, **options):
    message, found = read(text, **options)
    assert not found.errors, found
    return message


def refused(text):
    with pytest.raises(UnreadableError) as caught:
        read(text)
    [found] = caught.value.diagnostics
    return found


@pytest.mark.parametrize(
    "text",
    [
        "layer { name: 'a' type: 'B' top: 'c' top: 'd' }",
        "layer: < name: \"a\", type: 'B'; top: ['c', 'd'] >",
        "# first\r\n\tlayer\r\n{\r\n\tname:'a'type:\"B\" # last\r\n\ttop:'c'\ttop:'d'}\r\n",
        "\ufefflayer { name: '\\141' type: '\\x42' top: 'c' top: \"\" 'd' }",
        "layer [{ name: 'a' type: 'B' top: ['c'] top: ['d'] }]",
    ],
)
def test_all_ways_of_writing_are_one(text):
    [layer] = net(text).messages("layer")
    assert (layer.text("name"), layer.text("type")) == ("a", "B")
    assert layer.texts("top") == ["c", "d"]


@pytest.mark.parametrize(
    ("written", "value"),
    [("0x10", 16), ("010", 8), ("7", 7), ("4294967295", 4294967295)],
)
def test_whole_numbers_are_decimal_octal_or_hexadecimal(written, value):
    [layer] = net(f"layer {{ pooling_param {{ kernel_size: {written} }} }}").messages("layer")
    assert layer.message("pooling_param").integer("kernel_size") == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.5f", 1.5), ("-2e-3", -0.002), (".5", 0.5), ("- 3", -3), ("-inf", float("-inf")),
        ("1", 1),
    ],
)  # fmt: skip
def test_real_numbers_have_many_forms(written, value):
    [layer] = net(f"layer {{ power_param {{ scale: {written} }} }}").messages("layer")
    assert layer.message("power_param").number("scale") == value


@pytest.mark.parametrize(("written", "value"), [("true", True), ("0", False), ("t", True)])
def test_truth_values_have_many_forms(written, value):
    text = f"layer {{ convolution_param {{ bias_term: {written} }} }}"
    [layer] = net(text).messages("layer")
    assert layer.message("convolution_param").flag("bias_term") is value


@pytest.mark.parametrize("written", ["AVE", "1"])
def test_enumerated_values_go_by_name_or_number(written):
    [layer] = net(f"layer {{ pooling_param {{ pool: {written} }} }}").messages("layer")
    assert layer.message("pooling_param").text("pool") == "AVE"


def test_what_is_not_written_has_the_default_of_the_schema_and_is_told_apart():
    [layer] = net("layer { batch_norm_param { } }").messages("layer")
    param = layer.message("batch_norm_param")
    assert param.number("eps") == 1e-5
    assert not param.has("eps")
    assert layer.message("pooling_param").text("pool") == "MAX"
    assert layer.message("scale_param").flag("bias_term") is False
    assert layer.message("convolution_param").flag("bias_term") is True


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("layer {\n  name: 'a'\n", 3, "ends inside LayerParameter, which begins at line 1"),
        ("layer {\n  name 'a' }", 2, "':' is expected after name at column 8"),
        ("layer { name: a }", 1, "text in quotes, not 'a }'"),
        ("layer { name: 'a' name: 'b' }", 1, "written twice at column 19"),
        ("layer { phase: LATER }", 1, "TRAIN or TEST, not LATER"),
        ("layer { pooling_param { stride: -1 } }", 1, "whole number from 0, not -1"),
        ("layer { pooling_param { stride: 4294967296 } }", 1, "not 4294967296"),
        ("layer { pooling_param { stride: 1.5 } }", 1, "not 1.5"),
        ("layer { name: ['a'] }", 1, "takes no list"),
        ("layer { top: ['a' 'b' }", 1, "',' or ']'"),
        ("layer { power_param: 3 }", 1, "'{' is expected"),
        ("layer { name: 'a", 1, "unexpected character"),
        ("}", 1, "field's name"),
        ("layer { >", 1, "field's name"),
        ("[a.b] { }", 1, "extension"),
        ("layer { clip_param { min: 0 } }", 1, "no max"),
        ("layer { what { a: [1, { ) } }", 1, "unexpected character ')'"),
        ("layer { what { a: 1", 1, "ends inside"),
        ("layer { pooling_param { stride: 09 } }", 1, "not 09"),
    ],
)
def test_what_is_no_text_of_this_format_is_refused_at_its_place(text, line, words):
    found = refused(text)
    assert (found.rule, found.location.line) == ("DLA418", line)
    assert words in found.message


def test_an_unknown_field_is_an_error_with_its_place_and_what_may_be_meant():
    _, found = read("layer {\n  pooling_param { kernelsize: 3 }\n  kernel_size: 3\n}")
    first, second = found.errors
    assert (first.rule, first.location.line) == ("DLA130", 2)
    assert "PoolingParameter has no field 'kernelsize' (column 19)" in first.message
    assert second.location.line == 3
    assert "it belongs into ConvolutionParameter" in second.help
    _, found = read("layer { nmae: 'a' }")
    assert "did you mean 'name'" in found.errors[0].help


def test_unknown_fields_of_any_kind_can_be_ignored():
    text = (
        "layer { a: 1 b { c { d: 'x' 'y' } e: [1, 2] } f < g: -1.5 > h: [{ i: 1 }, { }] "
        "name: 'n' j: inf }"
    )
    message, found = read(text, ignore_unknown=True)
    assert not found.errors
    assert len(found.warnings) == 5
    assert message.messages("layer")[0].text("name") == "n"


def test_the_misprint_of_the_guide_is_read_with_a_warning():
    message, found = read("layer { precision_param {\n bwlayer_in: 8 } }")
    assert not found.errors
    [warning] = found.warnings
    assert (warning.rule, warning.location.line) == ("DLA130", 2)
    [layer] = message.messages("layer")
    assert layer.message("precision_param").integer("bw_layer_in") == 8


def test_nesting_that_is_deep_or_wide_is_bounded():
    _, found = read("layer { a " + "{ a " * 50000 + "}" * 50000 + " }", ignore_unknown=True)
    assert len(found.warnings) == 1
    found = refused("layer { top: [" + "'a'," * (MOST_VALUES + 1) + "] }")
    assert found.rule == "DLA407"
    _, found = read("x: 1\n" * 5000)
    assert len(found.errors) == 20


def test_the_schema_has_no_number_twice():
    for message in caffe_schema().messages.values():
        numbers = [field.number for field in message.fields.values()]
        assert len(numbers) == len(set(numbers)), message.name


def test_the_schema_has_a_message_or_an_enum_for_every_type_that_it_names():
    schema = caffe_schema()
    for message in schema.messages.values():
        for field in message.fields.values():
            if field.kind == "enum":
                assert field.default is None or field.default in schema.enums[field.type_name]
            else:
                assert (field.type_name in schema.messages) == (field.kind == "message")
