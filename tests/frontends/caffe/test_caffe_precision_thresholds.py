"""Thresholds from files of ml-suite's and DECENT's quantisers."""

import json
from fractions import Fraction

import pytest

from dlaconv.errors import UnreadableError
from tests.frontends.caffe.files import load
from tests.frontends.caffe.precisions import (
    FIXED,
    XILINX,
    conv,
    filters,
    layer,
    pool,
    product,
    read,
    threshold,
    told,
)

DATA = layer("in", "Input", [], "input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } }", top="data")
NET = DATA + conv("c") + pool("p", bottom="c") + product("f", bottom="p")


def entry(name, **values):
    found = {
        "name": name,
        "bw_layer_in": 8,
        "bw_layer_out": 8,
        "bw_params": 8,
        "th_layer_in": 2.5,
        "th_layer_out": 4,
        "th_params": [0.1, 0.25],
    }
    return {key: value for key, value in {**found, **values}.items() if value is not ...}


def given(folder, *entries, text=NET, **more):
    """The precisions with a file of such entries."""
    path = folder / "quant.json"
    path.write_text(json.dumps({"network": list(entries), **more}), "utf-8")
    return read(text, thresholds=path)


BOTH = (entry("c"), entry("f"))


def test_layers_have_the_thresholds_of_their_entries(tmp_path):
    precisions, found = given(tmp_path, *BOTH, entry("p"), version="2.0.0")
    assert not len(found)
    for name in "cf":
        only = precisions[name]
        assert only.mode is XILINX
        assert (only.maps_in, only.maps_out) == (threshold("2.5"), threshold(4))
        assert (only.weights, only.bias) == (filters(Fraction(0.1), "1/4"), threshold(4))
        assert only.location.file.endswith("quant.json")
    assert (precisions["p"].maps_out, precisions["p"].weights) == (threshold(4), None)
    assert precisions["in"] is None


@pytest.mark.parametrize("name", ["in", "data"])
def test_the_input_is_found_by_its_name_or_its_top(tmp_path, name):
    precisions, found = given(tmp_path, entry(name, th_params=127.0), *BOTH)
    assert not len(found)
    assert (precisions["in"].maps_in, precisions["in"].maps_out) == (threshold("2.5"), threshold(4))
    assert precisions["in"].weights is None


def test_one_number_is_the_threshold_of_every_filter(tmp_path):
    precisions, _ = given(tmp_path, entry("c", th_params=0.5), entry("f"))
    assert precisions["c"].weights == filters("1/2", "1/2")


def test_a_filter_of_zeros_has_a_threshold_of_zero(tmp_path):
    zero = entry("c", th_params=[0, 1.0], sf_params=[0, 1 / 127])
    precisions, found = given(tmp_path, zero, entry("f"))
    assert not found.errors
    assert precisions["c"].weights == filters(0, 1)


@pytest.mark.parametrize("bits", [2, 6, 8, 16])
def test_units_that_agree_with_thresholds(tmp_path, bits):
    top = 2 ** (bits - 1) - 1
    units = {
        "sf_layer_in": 2.5 / top,
        "sf_layer_out": 4 / top,
        "sf_params": [0.1 / top, 0.25 / top],
    }
    widths = dict.fromkeys(("bw_layer_in", "bw_layer_out", "bw_params"), bits)
    precisions, found = given(tmp_path, entry("c", **widths, **units), entry("f"))
    assert not len(found)
    assert precisions["c"].maps_in.step == Fraction(5, 2 * top)


def test_layers_without_entries_stay_in_floating_point(tmp_path):
    precisions, found = given(tmp_path, entry("c"))
    assert precisions["f"] is None
    [item] = found
    assert (str(item.severity), item.rule) == ("warning", "DLA145")
    assert "'f'" in item.message
    assert "'p'" not in item.message


def test_entries_for_layers_that_are_not_there_are_listed(tmp_path):
    unknown = [entry(f"c{index}") for index in range(7)]
    _, found = given(tmp_path, *BOTH, *unknown)
    [item] = found
    assert (str(item.severity), item.rule) == ("warning", "DLA145")
    assert "'c4' and 2 more" in item.message
    assert "did you mean 'c'?" in item.help


def test_thresholds_of_another_network_are_refused(tmp_path):
    precisions, found = given(tmp_path, entry("x"), entry("y"))
    assert set(precisions.values()) == {None}
    assert [item.rule for item in found.errors] == ["DLA145"]
    assert "none of the network's 2 layers" in found.errors[0].message


def test_entries_of_layers_that_hand_their_format_on_mean_nothing(tmp_path):
    text = conv("c") + layer("r", "ReLU", "c") + pool("m", method="MAX", bottom="r")
    precisions, found = given(tmp_path, entry("c"), entry("r"), entry("m"), text=text)
    assert (precisions["r"], precisions["m"]) == (None, None)
    assert not len(found)


WRONG = {
    "missing width": ({"bw_layer_in": ...}, "bw_layer_in is missing"),
    "width as text": ({"bw_params": "8"}, "bw_params is text"),
    "width true": ({"bw_layer_out": True}, "bw_layer_out is true"),
    "width 8.5": ({"bw_layer_out": 8.5}, "bw_layer_out is 8.5"),
    "width 1": ({"bw_layer_out": 1}, "bw_layer_out is 1"),
    "width 64": ({"bw_layer_out": 64}, "bw_layer_out is 64"),
    "no threshold": ({"th_layer_out": ...}, "th_layer_out is missing"),
    "null": ({"th_layer_in": None}, "th_layer_in is missing"),
    "zero": ({"th_layer_in": 0}, "th_layer_in is 0"),
    "negative": ({"th_layer_in": -1.0}, "th_layer_in is -1"),
    "infinite": ({"th_layer_out": float("inf")}, "th_layer_out is inf"),
    "no number": ({"th_layer_out": float("nan")}, "th_layer_out is nan"),
    "large": ({"th_layer_out": 1e60}, "th_layer_out is 1e+60"),
    "huge": ({"th_layer_out": 10**400}, "th_layer_out is too large"),
    "a list": ({"th_layer_in": [1, 2]}, "th_layer_in is a list"),
    "too few": ({"th_params": [1]}, "1 th_params for 2 filters"),
    "too many": ({"th_params": [1] * 3}, "3 th_params for 2 filters"),
    "none": ({"th_params": []}, "0 th_params for 2 filters"),
    "no th_params": ({"th_params": ...}, "th_params[0] is missing"),
    "objects": ({"th_params": [{}, 1]}, "th_params[0] is an object"),
    "below zero": ({"th_params": [1, -1]}, "th_params[1] is -1"),
    "unit": ({"sf_layer_in": 2.5 / 128}, "sf_layer_in is 0.0195312"),
    "unit of the result": ({"sf_layer_out": 4 / 128}, "makes it 0.031496"),
    "unit of weights": ({"sf_params": [0.1 / 127, 0.26 / 127]}, "sf_params[1]"),
    "number of units": ({"sf_params": [0.1 / 127]}, "1 sf_params for 2 thresholds"),
    "unit as text": ({"sf_layer_in": "x"}, "sf_layer_in is text"),
    "unit of nothing": ({"sf_layer_in": float("nan")}, "sf_layer_in is nan"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_an_entry_cannot_say_is_refused_with_its_name(tmp_path, case):
    change, words = WRONG[case]
    _, found = given(tmp_path, entry("c", **change), entry("f"))
    [problem] = found.errors
    assert problem.rule == "DLA145"
    assert problem.message.startswith("'c': ")
    assert words in problem.message
    assert problem.location.file.endswith("quant.json")
    assert problem.help


def test_one_number_fills_no_memory(tmp_path):
    text = conv("c", outputs=4_000_000_000)
    _, found = given(tmp_path, entry("c", th_params=1), text=text)
    assert "4000000000 filters" in found.errors[0].message


def test_all_wrong_entries_are_named_in_one_run(tmp_path):
    wrong = [entry("c", bw_layer_in=0, th_layer_out=0), entry("f", th_params=[1])]
    _, found = given(tmp_path, *wrong, entry("f"), 7, {"name": ""}, {"name": ["c"]})
    assert len(found.errors) == 7
    messages = str(found)
    for words in ("two entries for 'f'", "network[3]", "network[4]", "network[5]"):
        assert words in messages


BROKEN = {
    "text": b"hello",
    "empty": b"",
    "a list": b"[]",
    "no network": b'{"layers": []}',
    "network of another type": b'{"network": {"name": "c"}}',
    "binary": bytes(range(256)),
    "cut": b'{"network": [{"name": "c", ',
    "deep": b'{"network": ' + b"[" * 200_000,
    "long number": b'{"network": [' + b"9" * 10_000 + b"]}",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_such_file_is_refused_as_unreadable(tmp_path, name):
    path = tmp_path / "quant.json"
    path.write_bytes(BROKEN[name])
    with pytest.raises(UnreadableError) as caught:
        read(NET, thresholds=path)
    [problem] = caught.value.diagnostics.errors
    assert problem.rule == "DLA145"
    assert problem.location.file == str(path)


def test_a_large_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "quant.json"
    path.write_bytes(b" " * ((1 << 24) + 1))
    with pytest.raises(UnreadableError, match="16,777,216 bytes"):
        read(NET, thresholds=path)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_file_must_be_there(tmp_path, kind):
    path = tmp_path if kind == "folder" else tmp_path / "none.json"
    with pytest.raises(UnreadableError) as caught:
        load(tmp_path, conv("c"), shape=(1, 3, 4, 4), thresholds=path)
    assert caught.value.diagnostics.errors[0].rule == "DLA401"


def test_thresholds_and_precisions_in_the_prototxt_exclude_each_other(tmp_path):
    precisions, found = given(tmp_path, *BOTH, text=NET + pool("q", FIXED, bottom="p"))
    assert set(precisions.values()) == {None}
    assert told(found) == [("error", "DLA146", "q")]
    assert "--thresholds and the prototxt" in found.errors[0].message
    assert "drop --thresholds" in found.errors[0].help
