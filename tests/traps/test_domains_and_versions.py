"""Under which names, domains and versions files have the operators.

Files of all ages mix the domains, leave out the import of one, or put a custom one first, where
tools then take its version for ONNX's.
"""

import numpy as np
import onnx
import pytest
from onnx import helper

import dlaconv
from tests.frontends.builders import QONNX, network, parameters, quant, random, save
from tests.frontends.qonnx.reference import int_quant, trunc_v1, trunc_v2
from tests.traps.support import assert_computes, conv2d, grid, hardware

DOMAINS = (
    "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "finn", "qonnx", "",
)  # fmt: skip
VECTOR = {"x": [1, 16]}


def bipolar(x, y, scale="s", domain=QONNX):
    return helper.make_node("BipolarQuant", [x, scale], [y], name=f"sign_{y}", domain=domain)


def trunc(x, y, *inputs, domain=QONNX, **attributes):
    attributes = {"rounding_mode": "FLOOR", **attributes}
    return helper.make_node("Trunc", [x, *inputs], [y], name="trunc", domain=domain, **attributes)


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_operator_is_known_in_every_domain(tmp_path, domain, imported):
    """Brevitas to 0.11, FINN and old QKeras files have domains of their own, or none at all."""
    domains = [(domain, 1)] if imported and domain else []
    x = random(4, 16, spread=4)
    nodes = [
        quant("x", "a", domain=domain),
        quant("a", "fine", "s2", domain=domain, op="IntQuant", signed=0),
        trunc("fine", "coarse", "s2", "z", "ten", "b", domain=domain),
        bipolar("coarse", "y", domain=domain),
    ]
    constants = parameters() | {"s2": np.float32(0.5), "ten": np.float32(10)}
    model = network(nodes, constants, VECTOR, outputs=("coarse", "y"), domains=domains)
    fine = int_quant(int_quant(x, 0.25, 0, 8), 0.5, 0, 8, signed=0)
    kept = trunc_v1(fine, 0.5, 10, 8)
    sign = np.full(kept.shape, 0.25, np.float32)  # nothing is negative
    assert_computes(tmp_path, model, kept, sign, x=x)


@pytest.mark.parametrize("first", ["custom", "standard"])
@pytest.mark.parametrize("opset", [11, 13, 18, 20])
def test_the_order_of_imports_is_no_order_of_importance(tmp_path, first, opset):
    """The dynamo exporter imports the custom domain first; its version is not ONNX's."""
    nodes = [
        quant("x", "q"),
        ("Cast", ["w64"], ["w32"], {"to": 1}),  # opset 2 knows no number 1 here
        quant("w32", "wq", narrow=1),
        ("Gemm", ["q", "wq"], ["y"], {"transB": 1}),
    ]
    weights = random(5, 16, seed=1)
    model = network(nodes, parameters(), VECTOR, opset=opset)
    # float64, as a Cast has something to do
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights.astype(np.float64), "w64"))
    if first == "standard":
        imports = list(model.opset_import)[::-1]
        del model.opset_import[:]
        model.opset_import.extend(imports)
    x = grid(3, 16, step=0.25)
    expected = x.astype(np.float64) @ int_quant(weights, 0.25, 0, 8, narrow=1).T
    assert_computes(tmp_path, model, expected, x=x)


@pytest.mark.parametrize("domain_version", [1, 2, None])
def test_the_inputs_of_trunc_tell_its_version_whatever_is_imported(tmp_path, domain_version):
    """Input 4 is the output's bits in version 1 and its scale in version 2; files import either."""
    domains = [] if domain_version is None else [(QONNX, domain_version)]
    x = np.full((1, 16), 10.75, np.float32)
    constants = {
        name: np.float32(value)
        for name, value in {"s": 0.25, "z": 0, "i": 10, "o": 8, "t": 1.0}.items()
    }
    old = network([trunc("x", "y", "s", "z", "i", "o")], constants, VECTOR, domains=domains)
    new = network(
        [trunc("x", "y", "s", "z", "i", "t", "o", signed=1, narrow=0)],
        constants,
        VECTOR,
        domains=domains,
    )
    assert trunc_v1(x, 0.25, 10, 8)[0, 0] == 2.5
    assert trunc_v2(x, 0.25, 0, 1.0, 8)[0, 0] == 10
    assert_computes(tmp_path, old, np.full((1, 16), 2.5, np.float32), x=x)
    assert_computes(tmp_path, new, np.full((1, 16), 10.0, np.float32), x=x)


def test_weights_under_the_newer_name_keep_their_scale(tmp_path):
    """Constant folding that knows only the name Quant turns IntQuant weights into floats."""
    nodes = [
        quant("x", "q", op="IntQuant"),
        quant("w", "wq", "ws", op="IntQuant", narrow=1),
        ("Conv", ["q", "wq"], ["c"]),
        quant("c", "y", "ys", op="IntQuant"),
    ]
    scales = np.array([2.0**-6, 2.0**-7, 2.0**-5, 2.0**-6], np.float32).reshape(4, 1, 1, 1)
    weights = random(4, 3, 3, 3, seed=1, spread=0.3)
    constants = parameters(scale=2.0**-5) | {"w": weights, "ws": scales, "ys": np.float32(0.125)}
    x = grid(4, 3, 8, 8, step=2.0**-5)
    got = hardware(tmp_path, network(nodes, constants, {"x": [1, 3, 8, 8]}), x=x)
    assert got.classes("weight") == {"conv_c/weights": "exact"}
    assert got.row("conv_c/weights")["source"]["steps"] == scales.reshape(-1).tolist()
    summed = conv2d(x, int_quant(weights, scales, 0, 8, narrow=1))
    assert np.array_equal(got.outputs["y"], int_quant(summed.astype(np.float32), 0.125, 0, 8))


@pytest.mark.parametrize("op", ["IntQuant", "Trunc"])
def test_quantisers_on_constants_are_read_as_quantisers(tmp_path, op):
    """Trunc on a constant, too, must not be folded by an executor that does not know it."""
    made = quant("w", "wq", op=op) if op == "IntQuant" else trunc("w", "wq", "s", "z", "b", "b")
    nodes = [made, ("Add", ["x", "wq"], ["y"])]
    weights = random(1, 16, seed=2)
    x = random(2, 16)
    model = network(nodes, parameters() | {"w": weights}, VECTOR)
    expected = x + (
        int_quant(weights, 0.25, 0, 8) if op == "IntQuant" else trunc_v1(weights, 0.25, 8, 8)
    )
    assert_computes(tmp_path, model, expected, x=x)


@pytest.mark.parametrize("ir_version", [3, 7, 10, 13])
def test_files_are_written_in_a_version_that_everything_reads(tmp_path, ir_version):
    """onnx writes IR versions that onnxruntime does not read; 10 is read widely."""
    nodes = [quant("x", "q"), quant("w", "wq"), ("Gemm", ["q", "wq"], ["g"], {"transB": 1})]
    nodes.append(quant("g", "y"))
    constants = parameters() | {"w": random(5, 16, seed=1)}
    model = network(nodes, constants, VECTOR, ir_version=ir_version, opset=11)
    model.graph.node[2].input.append("")  # no bias, spelled out
    hardware(tmp_path, model, x=grid(2, 16, step=0.25))
    assert onnx.load(tmp_path / "net.dla.onnx").ir_version <= 10
    assert dlaconv.load(save(tmp_path, model)).model.ir_version <= 10


def test_channels_last_operators_follow_the_standard_opset(tmp_path):
    """Their domain is imported as version 1 or not at all; the operators are those of opset 18."""
    domain = "qonnx.custom_op.channels_last"
    window = {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 1], "pads": [0] * 4}
    pool = helper.make_node("MaxPool", ["q"], ["y"], domain=domain, ceil_mode=0, **window)
    x = grid(2, 8, 8, 3, step=0.25)
    expected = x.reshape(2, 4, 2, 4, 2, 3).max(axis=(2, 4))
    for domains in ([(domain, 1)], []):
        model = network([quant("x", "q"), pool], parameters(), {"x": [1, 8, 8, 3]}, domains=domains)
        assert_computes(tmp_path, model, expected, x=x)
