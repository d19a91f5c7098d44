"""One format for all layers: --precision with --fl-bitwidths, as XportDNN has them."""

import pytest

from dlaconv.errors import UsageError
from dlaconv.frontends.caffe import load_caffe
from dlaconv.frontends.caffe.precision.sources import Uniform
from dlaconv.frontends.caffe.precision.uniform import parse_uniform
from tests.frontends.caffe.precisions import (
    DYNAMIC,
    FIXED,
    QFormat,
    conv,
    layer,
    pool,
    product,
    read,
    told,
)

IN, WEIGHTS, OUT = QFormat(8, 4), QFormat(6, 7), QFormat(7, 3)
UNIFORM = Uniform((8, 6, 7), (4, 7, 3))


def test_values_are_those_of_input_parameters_and_output():
    assert parse_uniform("8,6,7", "4,7,3") == UNIFORM
    assert parse_uniform(" 8, 8 ,8", "-1,12,0") == Uniform((8, 8, 8), (-1, 12, 0))
    assert parse_uniform(None, None) is None


BAD = {
    "bits alone": ("8,8,8", None, "--precision needs --fl-bitwidths"),
    "fractions alone": (None, "4,7,4", "--fl-bitwidths needs --precision"),
    "two": ("8,8", "4,7,4", "--precision '8,8' is not three whole numbers"),
    "four": ("8,8,8", "4,7,4,1", "--fl-bitwidths '4,7,4,1' is not three"),
    "words": ("8,eight,8", "4,7,4", "'8,eight,8'"),
    "empty": ("", "4,7,4", "--precision '' is not three"),
    "one bit": ("8,1,8", "4,7,4", "for parameters is 1"),
    "many bits": ("8,8,33", "4,7,4", "for output is 33"),
    "far": ("8,8,8", "4,200,4", "for parameters is 200"),
    "shift": ("8,8,8", "2,2,4", "4 bits behind the point and sums 2 + 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_format_can_be_is_wrong_usage(case):
    bits, fractions, words = BAD[case]
    with pytest.raises(UsageError) as caught:
        parse_uniform(bits, fractions)
    [problem] = caught.value.diagnostics.errors
    assert words in problem.message
    assert problem.rule == ("DLA142" if case == "shift" else "DLA426")
    assert problem.help


def test_everything_wrong_with_both_options_is_told():
    with pytest.raises(UsageError) as caught:
        parse_uniform("0,8,40", "1,x,1")
    assert len(caught.value.diagnostics.errors) == 3


def test_the_options_are_looked_at_before_the_files(tmp_path):
    with pytest.raises(UsageError):
        load_caffe(tmp_path / "none", tmp_path / "none", precision="8,8,8")


def test_every_layer_that_computes_has_the_format():
    text = conv("c") + layer("r", "ReLU", "c", top="c") + pool("m", method="MAX", bottom="c")
    text += pool("p", bottom="m") + layer("e", "Eltwise", ["p", "m"])
    text += conv("d", kind="Deconvolution", bottom="e") + layer("k", "Concat", ["d", "e"])
    text += product("f", bottom="k") + layer("s", "Softmax", "f")
    precisions, found = read(text, uniform=UNIFORM)
    assert not len(found)
    assert [name for name, only in precisions.items() if only is None] == ["r", "m", "k", "s"]
    for name in "cpedf":
        only = precisions[name]
        assert (only.mode, only.maps_in, only.maps_out) == (DYNAMIC, IN, OUT)
        assert (only.weights, only.bias) == ((WEIGHTS, OUT) if name in "cdf" else (None, None))
        assert only.location.file == "net.prototxt"


def test_statistics_have_the_format_of_parameters_where_they_are_computed():
    chain = layer("b", "BatchNorm", "c") + layer("s", "Scale", "b")
    precisions, _ = read(conv("c") + chain, uniform=UNIFORM)
    assert [precisions[name].statistics for name in "bs"] == [{}, {}]
    assert precisions["s"].maps_out == OUT
    precisions, _ = read(conv("c", bottom="x") + chain.replace("'c'", "'data'"), uniform=UNIFORM)
    assert set(precisions["b"].statistics.values()) == {WEIGHTS}
    assert len(precisions["s"].statistics) == 3


def test_a_network_with_precision_of_its_own_is_refused():
    precisions, found = read(conv("c") + pool("p", FIXED, bottom="c"), uniform=UNIFORM)
    assert set(precisions.values()) == {None}
    assert told(found) == [("error", "DLA146", "p")]
    assert "--precision and the prototxt" in found.errors[0].message


def test_both_sources_at_once_are_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        read(conv("c"), uniform=UNIFORM, thresholds=tmp_path / "quant.json")
    [problem] = caught.value.diagnostics.errors
    assert problem.rule == "DLA146"
    assert "--thresholds and --precision" in problem.message
    assert problem.help
