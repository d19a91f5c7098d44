"""``dlaconv show``: layers, sizes and quantisation of sources, converted files and cut networks."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.cli import run
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.options import Options
from tests.core.test_partition import Converted, network
from tests.core.test_schemas import validate
from tests.networks import Style, chain


@pytest.fixture
def quantised(tmp_path):
    """A chain of two convolutions at power-of-two scales, and what it is converted to."""
    built = chain(2, 0, Style(power_of_two=True))
    onnx.save(built.model, tmp_path / "net.onnx")
    options = Options(verify=False, allow_violations=True)
    dlaconv.convert(tmp_path / "net.onnx", tmp_path / "net.dla.onnx", options=options)
    return tmp_path


def layers(shown, op):
    return [row for part in shown.parts for row in part["layers"] if row["op"].startswith(op)]


def test_a_float_source_is_counted(tmp_path):
    onnx.save(network("conv", "fc"), tmp_path / "net.onnx")
    shown = dlaconv.show(tmp_path / "net.onnx")
    validate("show", shown.as_json())
    assert shown.kind == "source"
    [part] = shown.parts
    assert [row["op"] for row in part["layers"]] == ["Conv", "Relu", "Flatten", "Gemm"]
    conv, _, _, gemm = part["layers"]
    assert (conv["shape"], conv["parameters"]) == ([1, 16, 8, 8], 16 * 3 * 9)
    assert conv["macs"] == 16 * 64 * 27
    assert (gemm["shape"], gemm["parameters"], gemm["macs"]) == ([1, 10], 10240, 10240)
    assert (conv["inputs"], conv["maps"], conv["weights"]) == (["x"], [], None)
    assert part["inputs"] == [{"name": "x", "shape": [1, 3, 8, 8], "maps": []}]
    assert shown.as_json()["total"] == {"layers": 4, "parameters": 10672, "macs": 37888}


def test_weights_that_layers_share_are_counted_once(tmp_path):
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    nodes = [helper.make_node("Conv", [a, "w"], [b], name=b) for a, b in (("x", "a"), ("a", "y"))]
    values = [helper.make_tensor_value_info(name, 1, [1, 3, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    [part] = dlaconv.show(tmp_path / "net.onnx").parts
    assert [row["parameters"] for row in part["layers"]] == [9, 9]
    assert part["parameters"] == 9


def test_quantisers_of_a_source_are_told_with_their_layers(quantised):
    shown = dlaconv.show(quantised / "net.onnx")
    validate("show", shown.as_json())
    assert not [row for part in shown.parts for row in part["layers"] if "Quant" in row["op"]]
    for row in layers(shown, "Conv"):
        assert row["weights"]["bits"] == 8
        assert row["weights"]["channels"] == row["shape"][1]
    assert [item["bits"] for item in shown.parts[0]["inputs"][0]["maps"]] == [8]


def test_a_converted_file_has_the_integers_of_its_source(quantised):
    source = dlaconv.show(quantised / "net.onnx")
    shown = dlaconv.show(quantised / "net.dla.onnx")
    validate("show", shown.as_json())
    assert shown.kind == "converted"
    ours, theirs = layers(shown, "Conv"), layers(source, "Conv")
    assert [row["layer"] for row in ours] == [row["layer"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["weights"] == other["weights"]
        assert mine["macs"] == other["macs"]
        assert [item["class"] for item in mine["maps"]] == ["exact"]
    [fed], [given] = (s.parts[0]["inputs"][0]["maps"] for s in (shown, source))
    assert {**fed, "class": None} == given


def test_all_parts_of_a_cut_network_are_shown(tmp_path):
    made = Converted(tmp_path, network("conv", "Erf", "conv"), partition=True)
    shown = dlaconv.show(tmp_path / "net.dla.json")
    validate("show", shown.as_json())
    assert shown.kind == "chain"
    assert [part["file"] for part in shown.parts] == [p["file"] for p in made.report["parts"]]
    assert [part["side"] for part in shown.parts] == ["accelerator", "host", "accelerator"]
    assert [row["op"] for row in shown.parts[1]["layers"]] == ["Erf"]


def test_open_shapes_are_open_until_they_are_given(tmp_path, capsys):
    model = network("conv", "conv")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_param = dims[3].dim_param = "size"
    onnx.save(model, tmp_path / "net.onnx")
    shown = dlaconv.show(tmp_path / "net.onnx")
    validate("show", shown.as_json())
    assert layers(shown, "Conv")[0]["shape"] == [1, 16, None, None]
    assert layers(shown, "Conv")[0]["macs"] == 0
    assert run(["show", str(tmp_path / "net.onnx")]) == 0
    assert "1x16x?x?" in capsys.readouterr().out
    shown = dlaconv.show(tmp_path / "net.onnx", shapes={"x": (1, 3, 4, 4)})
    assert layers(shown, "Conv")[0]["shape"] == [1, 16, 4, 4]
    with pytest.raises(UsageError, match="no such input"):
        dlaconv.show(tmp_path / "net.onnx", shapes={"z": (1, 3, 4, 4)})


def test_minus_q_adds_the_quantisation_and_is_not_quiet(quantised, capsys):
    assert run(["show", str(quantised / "net.dla.onnx")]) == 0
    plain = capsys.readouterr().out
    assert run(["show", str(quantised / "net.dla.onnx"), "-q"]) == 0
    full = capsys.readouterr().out
    assert "exact" in full
    assert "int8" in full
    assert "exact" not in plain
    assert run(["show", str(quantised / "net.dla.onnx"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_json_is_valid_whatever_is_asked_for(quantised, capsys):
    assert run(["show", str(quantised / "net.onnx"), "--json"]) == 0
    validate("show", json.loads(capsys.readouterr().out))


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(UnreadableError):
        dlaconv.show(tmp_path / "net.onnx")
    (tmp_path / "net.json").write_text("{}")
    with pytest.raises(UnreadableError, match="report"):
        dlaconv.show(tmp_path / "net.json")
