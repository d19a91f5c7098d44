import numpy as np
import pytest
from onnx import helper

from dlaconv.frontends.qonnx.operators import GENERAL
from dlaconv.ir import dialect
from dlaconv.ir.rounding import Rounding
from tests.frontends.builders import (
    QONNX,
    execute,
    load,
    network,
    parameters,
    quant,
    random,
    rules,
)
from tests.frontends.qonnx.reference import int_quant

TIES = np.arange(-40, 41, dtype=np.float32) / 8
# qonnx.custom_op.general IntQuant, "rounding_mode": results for 2.5, 0.5, -0.5, -1.6, -2.5
TABLE = {
    "ROUND": (2, 0, 0, -2, -2),
    "HALF_EVEN": (2, 0, 0, -2, -2),
    "CEIL": (3, 1, 0, -1, -2),
    "FLOOR": (2, 0, -1, -2, -3),
    "UP": (3, 1, -1, -2, -3),
    "DOWN": (2, 0, 0, -1, -2),
    "HALF_UP": (3, 1, -1, -2, -3),
    "HALF_DOWN": (2, 0, 0, -2, -2),
    "round_to_zero": (2, 0, 0, -1, -2),
    "dpu": (2, 0, 0, -2, -2),
}


def one_quant(tmp_path, x, attributes=None, **numbers):
    model = network(
        [quant("x", "y", **(attributes or {}))], parameters(**numbers), {"x": list(x.shape)}
    )
    return load(tmp_path, model)


@pytest.mark.parametrize("spelling", [str.upper, str.lower, str.title])
@pytest.mark.parametrize(("mode", "expected"), TABLE.items())
def test_a_rounding_mode_rounds_as_documented(tmp_path, mode, expected, spelling):
    x = np.array([2.5, 0.5, -0.5, -1.6, -2.5], np.float32)
    imported = one_quant(tmp_path, x, {"rounding_mode": spelling(mode)}, scale=1.0)
    (y,) = execute(imported, x=x)
    assert tuple(y) == expected


@pytest.mark.parametrize("mode", [name for name in TABLE if name.isupper()])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("zero", [0, 3])
def test_quant_computes_what_qonnx_computes(tmp_path, mode, bits, signed, narrow, zero):
    if bits == 1 and (narrow or (signed and zero)):
        pytest.skip("refused, tested elsewhere")
    x = np.concatenate([TIES, random(200, spread=40)])
    attributes = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
    imported = one_quant(tmp_path, x, attributes, scale=0.25, zero=zero, bits=bits)
    (y,) = execute(imported, x=x)
    expected = int_quant(x, 0.25, zero, bits, signed=signed, narrow=narrow, mode=mode)
    assert np.array_equal(y, expected)


def test_scales_that_are_no_power_of_two_divide_in_float32(tmp_path):
    x = random(2000, spread=5)
    (y,) = execute(one_quant(tmp_path, x, scale=0.0371), x=x)
    assert np.array_equal(y, int_quant(x, 0.0371, 0, 8))


def test_a_zero_point_is_added_before_rounding(tmp_path):
    x = np.array([0.5, 1.5, 2.5], np.float32)
    (y,) = execute(one_quant(tmp_path, x, {"signed": 0}, scale=1.0, zero=1), x=x)
    assert list(y) == [1, 1, 3]  # QuantizeLinear would give 0, 2, 2


def test_unsigned_narrow_drops_the_largest_code(tmp_path):
    x = np.array([254.0, 255.0, 256.0], np.float32)
    (y,) = execute(one_quant(tmp_path, x, {"signed": 0, "narrow": 1}, scale=1.0), x=x)
    assert list(y) == [254, 254, 254]


@pytest.mark.parametrize("narrow", [0, 1])
def test_one_signed_bit_is_a_sign(tmp_path, narrow):
    x = np.array([-3.0, -0.0, 0.0, 0.01], np.float32)
    imported = one_quant(tmp_path, x, {"narrow": narrow}, scale=0.5, bits=1)
    (y,) = execute(imported, x=x)
    assert list(y) == [-0.5, 0.5, 0.5, 0.5]
    assert [dialect.is_bipolar(node) for node in imported.model.graph] == [True]


def test_32_bit_integers_are_exact(tmp_path):
    x = np.array([2.0**31, -(2.0**31), 16777217.0, 33554434.0], np.float32)
    (y,) = execute(one_quant(tmp_path, x, scale=0.5, bits=32), x=x)
    assert list(y) == [2.0**30, -(2.0**30), 16777216.0, 33554434.0]


@pytest.mark.parametrize(
    ("missing", "kept"),
    [("signed", {"narrow": 1}), ("narrow", {"signed": 0}), ("rounding_mode", {})],
)
def test_attributes_left_out_have_the_documented_defaults(tmp_path, missing, kept):
    imported = one_quant(tmp_path, TIES, {**kept, missing: None}, scale=0.25)
    quantisation = dialect.quantisation_of(next(iter(imported.model.graph)))
    assert quantisation.signed is bool(kept.get("signed", 1))
    assert quantisation.narrow is bool(kept.get("narrow", 0))
    assert quantisation.rounding is Rounding.HALF_EVEN


@pytest.mark.parametrize("domain", sorted(GENERAL))
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
@pytest.mark.parametrize("declared", [True, False])
def test_every_domain_that_files_use_is_known(tmp_path, domain, op, declared):
    domains = [(domain, 1)] if declared and domain else []
    node = quant("x", "y", op=op, domain=domain)
    imported = load(tmp_path, network([node], parameters(), domains=domains))
    x = random(1, 3, 4, 4)
    (y,) = execute(imported, x=x)
    assert np.array_equal(y, int_quant(x, 0.25, 0, 8))


@pytest.mark.parametrize(
    ("shape", "scale_shape", "kept"),
    [
        ((4, 3, 2, 2), (4, 1, 1, 1), (4, 1, 1, 1)),  # convolution
        ((4, 3, 2, 2), (1, 3, 1, 1), (1, 3, 1, 1)),  # transposed convolution
        ((4, 3), (4, 1), (4, 1)),  # fully connected
        ((4,), (4,), (4,)),  # bias
        ((4,), (1,), ()),
        ((), (1,), ()),
        ((2, 3, 4, 4), (3, 1, 1), (1, 3, 1, 1)),
        ((4, 3, 2, 2), (1, 1, 1, 1), ()),
        ((4, 3, 2, 2), (), ()),
        ((4, 3), (4, 3), (4, 3)),
    ],
)
def test_scales_of_every_shape_broadcast(tmp_path, shape, scale_shape, kept):
    scale = np.random.default_rng(1).uniform(0.1, 1, size=scale_shape).astype(np.float32)
    weights = random(*shape, seed=2)
    model = network(
        [quant("w", "q"), ("Add", ["q", "x"], ["y"])],
        {"w": np.asarray(weights), **parameters(scale=scale)},
        {"x": list(shape)},
    )
    imported = load(tmp_path, model)
    (y,) = execute(imported, x=np.zeros(shape, np.float32))
    expected = int_quant(weights, scale, 0, 8)
    assert np.array_equal(y.reshape(-1), expected.reshape(-1))
    node = next(node for node in imported.model.graph if dialect.is_quantize(node))
    assert dialect.quantisation_of(node).step.shape == kept


def test_a_computed_bit_width_is_folded(tmp_path):
    nodes = [
        helper.make_node("Log", ["area"], ["log"]),
        helper.make_node("Div", ["log", "log2"], ["raw"]),
        helper.make_node("Ceil", ["raw"], ["b"]),
        quant("x", "y"),
    ]
    constants = parameters()
    del constants["b"]
    constants |= {"area": np.float32(200.0), "log2": np.float32(np.log(2))}
    imported = load(tmp_path, network(nodes, constants))
    assert not rules(imported.diagnostics)
    (node,) = imported.model.graph
    assert dialect.quantisation_of(node).bits == 8


def test_parameters_may_be_constant_nodes_of_any_kind(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["s"], value_float=0.5),
        helper.make_node("Constant", [], ["z0"], value_int=0),
        helper.make_node("Cast", ["z0"], ["z"], to=1),
        helper.make_node("Constant", [], ["b"], value_ints=[4]),
        quant("x", "y"),
    ]
    imported = load(tmp_path, network(nodes))
    (node,) = imported.model.graph
    assert (dialect.quantisation_of(node).bits, node.name) == (4, "quant_y")


def test_a_dead_scale_is_kept(tmp_path):
    x = np.zeros((2,), np.float32)
    imported = one_quant(tmp_path, x, scale=np.array([7.9e-13, 0.5], np.float32))
    assert list(execute(imported, x=x)[0]) == [0, 0]


def test_one_tensor_may_feed_two_quantisers(tmp_path):
    nodes = [
        ("Relu", ["x"], ["r"]),
        quant("r", "a", "s"),
        quant("r", "c", "s2"),
        ("Sub", ["a", "c"], ["y"]),
    ]
    imported = load(tmp_path, network(nodes, {**parameters(), "s2": np.float32(0.5)}))
    x = random(1, 3, 4, 4)
    (y,) = execute(imported, x=x)
    relu = np.maximum(x, 0)
    assert np.array_equal(y, int_quant(relu, 0.25, 0, 8) - int_quant(relu, 0.5, 0, 8))


def test_a_chain_of_quantisers_stays_a_chain(tmp_path):
    nodes = [quant("x", "a", signed=0), quant("a", "y", "s2")]
    imported = load(tmp_path, network(nodes, {**parameters(), "s2": np.float32(2)}))
    x = random(1, 3, 4, 4)
    (y,) = execute(imported, x=x)
    assert np.array_equal(y, int_quant(int_quant(x, 0.25, 0, 8, signed=0), 2, 0, 8))
    assert [dialect.is_quantize(node) for node in imported.model.graph] == [True, True]


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas"])
def test_bipolar_quant_tests_x_and_not_the_quotient(tmp_path, domain):
    node = helper.make_node("BipolarQuant", ["x", "s"], ["y"], domain=domain, name="sign")
    x = np.array([-1.0, -1e-30, 0.0, -0.0, 2.0], np.float32)
    imported = load(tmp_path, network([node], {"s": np.float32(1.5)}, {"x": [5]}, domains=()))
    (y,) = execute(imported, x=x)
    assert list(y) == [-1.5, -1.5, 1.5, 1.5, 1.5]


def test_bipolar_weights_keep_their_scale_per_channel(tmp_path):
    scale = np.array([[0.5], [2.0]], np.float32)
    weights = random(2, 3)
    nodes = [
        helper.make_node("BipolarQuant", ["w", "s"], ["q"], domain=QONNX, name="sign"),
        ("Gemm", ["x", "q"], ["y"], {"transB": 1}),
    ]
    imported = load(tmp_path, network(nodes, {"w": weights, "s": scale}, {"x": [1, 3]}))
    x = random(1, 3, seed=3)
    (y,) = execute(imported, x=x)
    expected = x @ (np.where(weights >= 0, 1, -1) * scale).T
    assert np.allclose(y, expected, rtol=1e-6)
