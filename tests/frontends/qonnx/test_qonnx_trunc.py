import numpy as np
import pytest
from onnx import helper

from dlaconv.ir import dialect
from tests.frontends.builders import QONNX, execute, load, network, quant, random, rules
from tests.frontends.qonnx.reference import int_quant, trunc_v1, trunc_v2

MODES = ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


def trunc(x, y, *inputs, **attributes):
    return helper.make_node("Trunc", [x, *inputs], [y], name="trunc", domain=QONNX, **attributes)


def version_1(tmp_path, x, scale, in_bits, out_bits, *, version=1, before=(), **attributes):
    source = before[-1].output[0] if before else "x"
    node = trunc(source, "y", "s", "z", "i", "o", **attributes)
    constants = numbers(s=scale, z=0, i=in_bits, o=out_bits, area=9)
    model = network([*before, node], constants, {"x": list(x.shape)}, domains=[(QONNX, version)])
    return load(tmp_path, model)


def version_2(tmp_path, x, scale, in_bits, out_scale, out_bits, *, zero=0, version=2, **attributes):
    node = trunc("x", "y", "s", "z", "i", "t", "o", **attributes)
    constants = numbers(s=scale, z=zero, i=in_bits, t=out_scale, o=out_bits)
    model = network([node], constants, {"x": list(x.shape)}, domains=[(QONNX, version)])
    return load(tmp_path, model)


def numbers(**values):
    return {name: np.float32(value) for name, value in values.items()}


def every_integer(bits, scale, *, signed):
    low = -(2 ** (bits - 1)) if signed else 0
    return (np.arange(low, low + 2**bits, dtype=np.float32)) * np.float32(scale)


@pytest.mark.parametrize("declared", [1, 2])
def test_the_number_of_inputs_tells_the_versions_apart(tmp_path, declared):
    x = np.array([10.75], np.float32)
    shrunk = version_1(tmp_path, x, 0.25, 10, 8, version=declared)
    kept = version_2(tmp_path, x, 0.25, 10, 1.0, 8, version=declared)
    assert execute(shrunk, x=x)[0] == [2.5]
    assert execute(kept, x=x)[0] == [10.0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("scale", [2.0**-6, 2.0**-6 / 49, 0.0371])
@pytest.mark.parametrize("dropped", [0, 1, 4])
def test_version_2_keeps_the_value_of_every_integer(tmp_path, mode, signed, scale, dropped):
    x = every_integer(12, scale, signed=signed)
    out_scale = np.float32(scale) * np.float32(2**dropped)
    imported = version_2(tmp_path, x, scale, 12, out_scale, 8, signed=signed, rounding_mode=mode)
    (y,) = execute(imported, x=x)
    expected = trunc_v2(x, scale, 0, out_scale, 8, signed=signed, mode=mode)
    assert np.array_equal(y, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [2.0**-6, 2.0**-6 / 49, 0.0371])
@pytest.mark.parametrize("dropped", [0, 1, 4])
def test_version_1_shrinks_the_value_of_every_integer(tmp_path, mode, scale, dropped):
    x = every_integer(12, scale, signed=True)
    imported = version_1(tmp_path, x, scale, 12, 12 - dropped, rounding_mode=mode)
    (y,) = execute(imported, x=x)
    assert np.array_equal(y, trunc_v1(x, scale, 12, 12 - dropped, mode=mode))


def test_an_output_scale_that_is_off_by_a_rounding_still_truncates_exactly(tmp_path):
    scale, out_scale = np.float32(0.25), np.nextafter(np.float32(1.0), np.float32(2.0))
    x = every_integer(10, scale, signed=False)
    (y,) = execute(version_2(tmp_path, x, scale, 10, out_scale, 8, signed=0), x=x)
    assert np.array_equal(y, trunc_v2(x, scale, 0, out_scale, 8, signed=0))


@pytest.mark.parametrize("signed", [0, 1])
def test_values_beyond_the_declared_bits_clip_as_in_qonnx(tmp_path, signed):
    x = random(500, spread=300)
    (y,) = execute(version_2(tmp_path, x, 0.25, 6, 4.0, 8, signed=signed), x=x)
    assert np.array_equal(y, trunc_v2(x, 0.25, 0, 4.0, 8, signed=signed))


def test_a_zero_point_that_stays_whole_is_kept(tmp_path):
    x = random(300, spread=30)
    (y,) = execute(version_2(tmp_path, x, 0.25, 10, 1.0, 8, zero=8, signed=0), x=x)
    assert np.array_equal(y, trunc_v2(x, 0.25, 8, 1.0, 8, signed=0))


def test_version_1_is_merged_into_the_multiplication_by_the_kernel_area(tmp_path):
    before = [
        quant("x", "q", "s", "z", "o", signed=0),
        helper.make_node("AveragePool", ["q"], ["p"], name="pool", kernel_shape=[3, 3]),
        helper.make_node("Mul", ["p", "area"], ["m"], name="mul"),
    ]
    x = random(1, 2, 6, 6, spread=4)
    imported = version_1(tmp_path, x, 2.0**-4, 12, 8, before=before, rounding_mode="FLOOR")
    (y,) = execute(imported, x=x)
    pool = network([("AveragePool", ["x"], ["y"], {"kernel_shape": [3, 3]})], domains=())
    pool.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    q = int_quant(x, 2.0**-4, 0, 8, signed=0)
    pooled = np.stack([q[..., i : i + 4, j : j + 4] for i in range(3) for j in range(3)]).sum(
        axis=0
    )
    assert np.array_equal(y, trunc_v1(pooled, 2.0**-4, 12, 8))
    kinds = [node.op_type for node in imported.model.graph]
    assert kinds.count("Mul") == 1
    fine, coarse = [node for node in imported.model.graph if dialect.is_quantize(node)][1:]
    assert not dialect.quantisation_of(fine).signed
    assert dialect.quantisation_of(fine).scalar_step * 16 == 2.0**-4
    assert dialect.quantisation_of(coarse).bits == 8


def test_the_result_keeps_its_name_and_layer(tmp_path):
    for scale in (0.25, 0.3):
        imported = version_2(tmp_path, np.zeros(2), scale, 10, np.float32(scale) * 4, 8)
        assert imported.model.graph.outputs[0].name == "y"
        layers = {node.metadata_props["dlaconv.layer"] for node in imported.model.graph}
        assert layers == {"trunc"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"s": np.float32(0)}, "DLA105"),
        ({"t": np.float32(-1)}, "DLA105"),
        ({"s": np.array([[[0.5]], [[0.25]]], np.float32)}, "DLA105"),
        ({"z": np.float32(0.5)}, "DLA106"),
        ({"z": np.float32(3)}, "DLA106"),
        ({"i": np.float32(0)}, "DLA107"),
        ({"o": np.float32(2.5)}, "DLA107"),
    ],
)
def test_numbers_that_make_no_truncation_are_refused(tmp_path, changes, rule):
    constants = numbers(s=0.25, z=0, i=10, t=1, o=8) | changes
    node = trunc("x", "y", "s", "z", "i", "t", "o")
    assert rules(load(tmp_path, network([node], constants)).diagnostics) == [rule]


@pytest.mark.parametrize(
    ("changes", "rule"), [({"z": 1}, "DLA106"), ({"i": 6}, "DLA107"), ({"o": 0}, "DLA107")]
)
def test_version_1_refuses_what_it_cannot_say(tmp_path, changes, rule):
    constants = numbers(**({"s": 0.25, "z": 0, "i": 10, "o": 8} | changes))
    node = trunc("x", "y", "s", "z", "i", "o")
    assert rules(load(tmp_path, network([node], constants)).diagnostics) == [rule]


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_another_number_of_inputs_is_refused(tmp_path, count):
    node = trunc("x", "y", *["s"] * (count - 1))
    assert rules(load(tmp_path, network([node], numbers(s=1))).diagnostics) == ["DLA103"]


def largest_integer(tmp_path, source, area=9):
    """The largest coarse integer of version 1 behind an average of ``source`` times its area."""
    nodes = [
        *source,
        helper.make_node("AveragePool", ["q"], ["p"], kernel_shape=[3, 3]),
        helper.make_node("Mul", ["p", "area"], ["m"]),
        trunc("m", "y", "s", "z", "i", "o", rounding_mode="ROUND"),
    ]
    constants = numbers(s=0.25, z=0, i=12, o=8, area=area, b=8)
    imported = load(tmp_path, network(nodes, constants))
    *_, last = (node for node in imported.model.graph if dialect.is_quantize(node))
    return dialect.quantisation_of(last).qmax


def test_version_1_is_bounded_by_the_quantiser_before_it(tmp_path):
    """2047/16 rounds to 128, which no signed 8 bits hold; but nothing exceeds 9 * 127."""
    signed = [quant("x", "q", "s", "z", "b")]
    unsigned = [quant("x", "q", "s", "z", "b", signed=0)]
    rectified = [quant("x", "n", "s", "z", "b"), helper.make_node("Relu", ["n"], ["q"])]
    unknown = [helper.make_node("Tanh", ["x"], ["q"])]
    assert largest_integer(tmp_path, signed) == round(9 * 127 / 16)
    assert largest_integer(tmp_path, unsigned) == round(9 * 255 / 16)
    assert largest_integer(tmp_path, rectified) == round(9 * 127 / 16)
    assert largest_integer(tmp_path, unknown) == 128
    assert largest_integer(tmp_path, signed, area=-9) == 128
