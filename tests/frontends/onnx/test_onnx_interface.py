"""Graph inputs and outputs of integers become real ones."""

import numpy as np
import pytest
from onnx import TensorProto

from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from dlaconv.ir.graph import shape_of
from tests.frontends.builders import onnxruntime_outputs, random, rules
from tests.frontends.onnx.plain import canonical, contrib, integer_input, load, operators, plain

KINDS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}
SCALE, ZERO = np.float32(0.25), 3


def numbers(kind):
    return {"s": SCALE, "z": kind(ZERO)}


def reals(integers):
    return (integers.astype(np.float32) - ZERO) * SCALE


def integers_of(kind, *shape):
    info = np.iinfo(kind)
    return np.random.default_rng(0).integers(info.min, info.max + 1, shape).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moved", [False, True])
def test_an_input_of_integers_takes_their_reals(tmp_path, kind, moved):
    nodes = [("Transpose", ["x"], ["m"], {"perm": [0, 3, 1, 2]})] if moved else []
    nodes += [
        ("DequantizeLinear", ["m" if moved else "x", "s", "z"], ["a"]),
        ("Relu", ["a"], ["y"]),
    ]
    model = integer_input(plain(nodes, numbers(kind), {"x": [1, 4, 4, 3]}), "x", KINDS[kind])
    x = integers_of(kind, 1, 4, 4, 3)
    (expected,) = onnxruntime_outputs(model, x=x)
    imported = load(tmp_path, model)
    assert not imported.diagnostics.errors
    (note,) = imported.diagnostics
    assert note.rule == "DLA123"
    assert f"'x' ({np.dtype(kind).name})" in note.message
    assert "0.25 a unit" in note.message
    (value,) = imported.model.graph.inputs
    assert (value.name, value.dtype.name, shape_of(value)) == ("x", "FLOAT", (1, 4, 4, 3))
    (got,) = run(imported.model, {"x": reals(x)}).values()
    assert np.array_equal(got, expected)
    quantiser = next(node for node in imported.model.graph if dialect.is_quantize(node))
    info = np.iinfo(kind)
    assert dialect.quantisation_of(quantiser).qmin == info.min - ZERO
    canonical(imported)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_of_integers_gives_their_reals(tmp_path, kind):
    nodes = [("Relu", ["x"], ["a"]), ("QuantizeLinear", ["a", "s", "z"], ["y"])]
    model = plain(nodes, numbers(kind))
    x = random(1, 3, 4, 4, spread=9.0)
    (expected,) = onnxruntime_outputs(model, x=x)
    imported = load(tmp_path, model)
    assert [item.rule for item in imported.diagnostics] == ["DLA123"]
    results = run(imported.model, {"x": x})
    assert list(results) == ["y"]
    assert np.array_equal(results["y"], reals(expected))
    assert [value.name for value in canonical(imported).graph.outputs] == ["y"]


def test_a_network_of_integers_from_end_to_end(tmp_path):
    nodes = [
        contrib("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"], ["a"]),
        ("MaxPool", ["a"], ["y"], {"kernel_shape": [2, 2]}),
    ]
    model = plain(nodes, numbers(np.uint8), domains=[("com.microsoft", 1)])
    integer_input(model, "x")
    x = integers_of(np.uint8, 1, 3, 4, 4)
    (expected,) = onnxruntime_outputs(model, x=x)
    imported = load(tmp_path, model)
    (note,) = imported.diagnostics
    assert "input 'x'" in note.message
    assert "output 'y'" in note.message
    (got,) = run(imported.model, {"x": reals(x)}).values()
    assert np.array_equal(got, reals(expected))


def test_an_image_of_bytes_that_is_cast_is_worth_one_a_unit(tmp_path):
    nodes = [
        ("Cast", ["x"], ["a"], {"to": TensorProto.FLOAT}),
        ("Div", ["a", "c"], ["b"]),
        ("Conv", ["b", "w"], ["y"]),
    ]
    constants = {"c": np.float32(255), "w": random(8, 3, 3, 3)}
    model = integer_input(plain(nodes, constants), "x")
    x = integers_of(np.uint8, 1, 3, 4, 4)
    (expected,) = onnxruntime_outputs(model, x=x)
    imported = load(tmp_path, model)
    assert "from 0 to 255, 1 a unit" in next(iter(imported.diagnostics)).message
    (got,) = run(imported.model, {"x": x.astype(np.float32)}).values()
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert "Cast" not in operators(imported.model)


def test_one_input_read_on_two_grids_is_worth_what_each_says(tmp_path):
    nodes = [
        ("DequantizeLinear", ["x", "s", "z"], ["a"]),
        ("DequantizeLinear", ["x", "s2", "z"], ["b"]),
        ("Concat", ["a", "b"], ["y"], {"axis": 1}),
    ]
    constants = numbers(np.uint8) | {"s2": np.float32(0.75)}
    model = integer_input(plain(nodes, constants), "x")
    x = integers_of(np.uint8, 1, 3, 4, 4)
    (expected,) = onnxruntime_outputs(model, x=x)
    (got,) = run(load(tmp_path, model).model, {"x": reals(x)}).values()
    assert np.allclose(got, expected, rtol=1e-6)


def test_an_input_that_is_an_output_too_is_real_on_both_sides(tmp_path):
    nodes = [
        ("DequantizeLinear", ["x", "s", "z"], ["y"]),
        ("Identity", ["x"], ["v"]),
    ]
    model = integer_input(plain(nodes, numbers(np.uint8), outputs=("y", "v")), "x")
    x = reals(integers_of(np.uint8, 1, 3, 4, 4))
    results = run(load(tmp_path, model).model, {"x": x})
    assert list(results) == ["y", "v"]
    assert np.array_equal(results["v"], x)


WORTHLESS = {
    "nothing reads a scale": [("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2]})],
    "arithmetic": [("Add", ["x", "x"], ["y"])],
    "another type": [("Cast", ["x"], ["y"], {"to": TensorProto.INT32})],
}


@pytest.mark.parametrize("case", WORTHLESS)
def test_integers_of_which_nothing_is_known_are_refused(tmp_path, case):
    model = integer_input(plain(WORTHLESS[case]), "x")
    found = load(tmp_path, model).diagnostics
    assert rules(found) == ["DLA117"]
    assert "'x'" in found.errors[0].message


def test_an_input_with_a_scale_per_channel_is_refused(tmp_path):
    nodes = [("DequantizeLinear", ["x", "s", "z"], ["y"], {"axis": 1})]
    constants = {"s": np.float32([1, 2, 3]), "z": np.zeros(3, np.uint8)}
    assert rules(load(tmp_path, integer_input(plain(nodes, constants), "x"))) == ["DLA118"]


def test_an_input_that_nothing_reads_is_no_problem_of_scales(tmp_path):
    nodes = [("Relu", ["v"], ["y"])]
    model = plain(nodes, inputs={"x": [1, 3], "v": [1, 3, 4, 4]})
    found = load(tmp_path, integer_input(model, "x"))
    assert not found.diagnostics.errors


def test_a_class_stays_an_integer(tmp_path):
    model = plain([("ArgMax", ["x"], ["y"], {"axis": 1})])
    imported = load(tmp_path, model)
    assert not list(imported.diagnostics)
    assert imported.model.graph.outputs[0].dtype.name == "INT64"


def test_the_command_line_says_what_became_of_them(tmp_path):
    import dlaconv

    nodes = [
        ("DequantizeLinear", ["x", "s", "z"], ["a"]),
        ("Conv", ["a", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("QuantizeLinear", ["c", "s2", "z"], ["y"]),
    ]
    constants = {"s": np.float32(2.0**-6), "s2": np.float32(1), "z": np.int8(0),
                 "w": random(16, 16, 3, 3)}  # fmt: skip
    model = integer_input(plain(nodes, constants, {"x": [1, 16, 8, 8]}), "x", TensorProto.INT8)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    conversion = dlaconv.convert(path, tmp_path / "net.dla.onnx", frontend="onnx")
    assert "DLA123" in [item["rule"] for item in conversion.report["diagnostics"]]
    (entry,) = conversion.report["io"]["inputs"]
    assert entry["name"] == "x"
    x = integers_of(np.int8, 2, 16, 8, 8)
    expected = np.concatenate([onnxruntime_outputs(model, x=x[i : i + 1])[0] for i in range(2)])
    got = dlaconv.run(tmp_path / "net.dla.onnx", {"x": x})["y"]
    assert np.abs(got.astype(int) - expected).max() <= 1
