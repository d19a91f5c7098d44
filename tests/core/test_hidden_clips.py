"""Clips of the source that the hardware's signed 8-bit maps do not make by themselves."""

import numpy as np
import pytest
from onnx import helper

import dlaconv
from dlaconv.errors import ConversionError
from dlaconv.options import Options
from tests.frontends.builders import network, parameters, quant, random, save

STEP = 1 / 64


def unsigned(x, y, bits="b"):
    return quant(x, y, "s", "z", bits, signed=0)


def converted(folder, nodes, inputs, outputs):
    constants = parameters(STEP, bits=7) | {"eight": np.float32(8)}
    model = network(nodes, constants, inputs, outputs)
    path = save(folder, model)
    options = Options(allow_violations=True)
    report = dlaconv.convert(path, folder / "net.dla.onnx", options=options).report
    return report, folder / "net.dla.onnx"


SHAPE = [1, 16, 4, 4]
SAMPLES = random(4, *SHAPE[1:], spread=1.0)


def on_grid(values, low=-128, high=127):
    return np.clip(np.rint(values.astype(np.float64) / STEP), low, high) * STEP


def test_an_unsigned_input_is_clipped_by_the_host_and_the_contract_says_so(tmp_path):
    nodes = [unsigned("x", "a"), quant("a", "y", "t", bits="eight")]
    nodes = [helper.make_node("Constant", [], ["t"], name="t", value_float=STEP * 2), *nodes]
    report, file = converted(tmp_path, nodes, {"x": SHAPE}, ["y"])
    port = report["io"]["inputs"][0]
    assert (port["qmin"], port["qmax"]) == (0, 127)
    assert port["feed"].endswith(", 0, 127)")
    got = dlaconv.run(file, {"x": SAMPLES}, as_float=True)["y"]
    wanted = np.rint(on_grid(SAMPLES, 0) / (2 * STEP)) * 2 * STEP
    assert (SAMPLES < -STEP).any()
    assert np.array_equal(got, wanted.astype(np.float32))


@pytest.mark.parametrize("activation", [(), ("Relu",)], ids=["bare", "behind-relu"])
def test_an_unsigned_quantiser_is_a_relu(tmp_path, activation):
    nodes = [
        quant("x", "a", bits="eight"),
        helper.make_node("Add", ["a", "a"], ["sum"], name="add"),
        *(helper.make_node(op, ["sum"], ["r"], name="act") for op in activation),
        unsigned("r" if activation else "sum", "y"),
    ]
    report, file = converted(tmp_path, nodes, {"x": SHAPE}, ["y"])
    added = [row for row in report["rewrites"] if row["name"] == "implicit_relu"]
    assert len(added) == 1 - len(activation)
    assert all(row["exact"] for row in added)
    got = dlaconv.run(file, {"x": SAMPLES}, as_float=True)["y"]
    assert np.array_equal(got, on_grid(2 * on_grid(SAMPLES), 0, 127).astype(np.float32))


def test_an_input_may_be_an_output_too(tmp_path):
    nodes = [quant("x", "y", bits="eight")]
    report, file = converted(tmp_path, nodes, {"x": SHAPE}, ["y"])
    assert [port["name"] for port in report["io"]["outputs"]] == ["y"]
    got = dlaconv.run(file, {"x": SAMPLES}, as_float=True)["y"]
    assert np.array_equal(got, on_grid(SAMPLES).astype(np.float32))


def test_inputs_may_be_used_in_any_order(tmp_path):
    nodes = [
        quant("second", "p", bits="eight"),
        quant("first", "q", bits="eight"),
        helper.make_node("Add", ["p", "q"], ["sum"], name="add"),
        quant("sum", "y", bits="eight"),
    ]
    report, file = converted(tmp_path, nodes, {"first": SHAPE, "second": SHAPE}, ["y"])
    assert [port["name"] for port in report["io"]["inputs"]] == ["first", "second"]
    other = SAMPLES[::-1] / 2
    got = dlaconv.run(file, {"second": other, "first": SAMPLES}, as_float=True)["y"]
    wanted = on_grid(on_grid(SAMPLES) + on_grid(other))
    assert np.array_equal(got, wanted.astype(np.float32))


@pytest.mark.parametrize(
    ("node", "shape", "rule"),
    [(quant("x", "y"), [4, 16, 4, 4], "DLA306"), (quant("c", "y"), SHAPE, "DLA307")],
    ids=["batch", "constant"],
)
def test_several_samples_at_once_and_constant_outputs_are_refused(tmp_path, node, shape, rule):
    constants = parameters(STEP) | {"c": np.ones((1, 4), np.float32)}
    path = save(tmp_path, network([node], constants, {"x": shape}, ["y"]))
    with pytest.raises(ConversionError) as caught:
        dlaconv.convert(path, options=Options(allow_violations=True))
    assert [item.rule for item in caught.value.diagnostics.errors] == [rule]
