"""How values become integers: every mode by every name, on exact ties, to the hardware's integers.

In power-of-two networks up to 6 % of all values are ties, so a mode that is mistaken for another
shows in every logit.
"""

import numpy as np
import pytest

from tests.frontends.builders import load, network, onnxruntime_outputs, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import assert_computes, conv2d, grid, hardware, refusals

TIES = np.array([2.5, 1.5, 0.5, -0.5, -1.5, -1.6, -2.5, 1.4, -0.4], np.float32)
NAMES = {
    # results for            2.5 1.5 0.5 -0.5 -1.5 -1.6 -2.5 1.4 -0.4
    "ROUND": (2, 2, 0, 0, -2, -2, -2, 1, 0),
    "HALF_EVEN": (2, 2, 0, 0, -2, -2, -2, 1, 0),
    "CEIL": (3, 2, 1, 0, -1, -1, -2, 2, 0),
    "FLOOR": (2, 1, 0, -1, -2, -2, -3, 1, -1),
    "UP": (3, 2, 1, -1, -2, -2, -3, 2, -1),
    "DOWN": (2, 1, 0, 0, -1, -1, -2, 1, 0),
    "HALF_UP": (3, 2, 1, -1, -2, -2, -3, 1, 0),
    "HALF_DOWN": (2, 1, 0, 0, -1, -2, -2, 1, 0),
    "ROUND_TO_ZERO": (2, 1, 0, 0, -1, -1, -2, 1, 0),
    "DPU": (2, 2, 0, 0, -1, -2, -2, 1, 0),
}
DIRECTED = ("CEIL", "FLOOR", "UP", "DOWN", "ROUND_TO_ZERO")


@pytest.mark.parametrize("spelling", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("mode", NAMES)
def test_a_mode_rounds_as_documented_in_any_case(tmp_path, mode, spelling):
    """QONNX matches names in any case; Brevitas writes floor, ceil, round_to_zero and dpu."""
    x = TIES.reshape(1, -1)
    node = quant("x", "y", rounding_mode=spelling(mode))
    model = network([node], parameters(scale=1.0), {"x": [1, 9]})
    assert_computes(tmp_path, model, np.array([NAMES[mode]], np.float32), x=x)


def test_dpu_lets_negative_ties_rise_and_others_go_to_even(tmp_path):
    """Neither half-even (-1.5 -> -2) nor half-up (0.5 -> 1); qonnx itself cannot execute it."""
    x = (np.arange(-20, 20, dtype=np.float32) + np.float32(0.5)).reshape(1, -1)
    model = network([quant("x", "y", rounding_mode="dpu")], parameters(scale=1.0), {"x": [1, 40]})
    expected = np.where(x < 0, np.ceil(x), np.rint(x))
    assert_computes(tmp_path, model, expected, x=x)


def test_half_up_of_qonnx_is_away_from_zero(tmp_path):
    """Hardware's add-half-and-shift, floor(x + 0.5), differs from it at every negative tie."""
    x = np.array([[-2.5, -1.5, 2.5]], np.float32)
    node = quant("x", "y", rounding_mode="HALF_UP")
    model = network([node], parameters(scale=1.0), {"x": [1, 3]})
    assert_computes(tmp_path, model, np.array([[-3, -2, 3]], np.float32), x=x)
    assert np.floor(x + 0.5).tolist() == [[-2, -1, 3]]


def test_a_mode_that_is_left_out_is_to_nearest_even(tmp_path):
    """Old files have no rounding_mode."""
    node = quant("x", "y")
    assert "rounding_mode" not in {attribute.name for attribute in node.attribute}
    model = network([node], parameters(scale=1.0), {"x": [1, 9]})
    expected = np.array([NAMES["ROUND"]], np.float32)
    assert_computes(tmp_path, model, expected, x=TIES.reshape(1, -1))


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "UP"])
def test_values_are_clipped_whatever_the_mode_rounds_them_to(tmp_path, mode):
    """The operator clips, then rounds; at whole limits the order makes no difference."""
    x = np.array([[126.2, 127.6, 128.0, 1e6, -127.6, -128.4, -129.0, -1e6]], np.float32)
    model = network(
        [quant("x", "y", rounding_mode=mode)], parameters(scale=1.0), {"x": list(x.shape)}
    )
    expected = int_quant(x, 1.0, 0, 8, mode=mode)
    assert expected.max() == 127
    assert expected.min() == -128
    assert_computes(tmp_path, model, expected, x=x)


@pytest.mark.parametrize("mode", ["stochastic_round", "LEARNED_ROUND", "sideways", ""])
def test_a_mode_that_says_no_integer_is_refused(tmp_path, mode):
    """Chance and trained decisions are in no file."""
    model = network([quant("x", "y", rounding_mode=mode)], parameters())
    (error,) = refusals(tmp_path, model)
    assert (error.rule, error.location.layer) == ("DLA109", "quant_y")
    assert "FLOOR" in error.help


def test_an_odd_zero_point_turns_ties_around(tmp_path):
    """QONNX adds the zero point before it rounds, QuantizeLinear behind: ties differ."""
    x = np.array([[0.5, 1.5, 2.5, 0.75]], np.float32)
    node = quant("x", "y", signed=0)
    model = network([node], parameters(scale=1.0, zero=1), {"x": [1, 4]})
    assert_computes(tmp_path, model, np.array([[1, 1, 3, 1]], np.float32), x=x)
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"]),
        ("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    linear = network(nodes, {"s": np.float32(1), "z": np.uint8(1)}, {"x": [1, 4]}, domains=())
    assert onnxruntime_outputs(linear, x=x)[0].tolist() == [[0, 2, 2, 1]]


# To the integers of the hardware.

STEP = 2.0**-4


def two_layers(mode, *, relu=False):
    """Conv -> [Relu] -> Quant(mode) -> 1x1 Conv -> Quant, all scales powers of two."""
    nodes = [
        quant("x", "xq"),
        quant("w1", "w1q", "ws"),
        ("Conv", ["xq", "w1q"], ["c1"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c1"], ["r1"]),
        quant("r1" if relu else "c1", "map", "ms", rounding_mode=mode),
        quant("w2", "w2q", "ws"),
        ("Conv", ["map", "w2q"], ["c2"]),
        quant("c2", "y", "ys"),
    ]
    constants = parameters(scale=2.0**-5) | {
        "ws": np.float32(2.0**-7),
        "ms": np.float32(STEP),
        "ys": np.float32(2.0**-3),
        "w1": random(16, 3, 3, 3, seed=1, spread=0.2),
        "w2": random(16, 16, 1, 1, seed=2, spread=0.2),
    }
    return network(nodes, constants, {"x": [1, 3, 8, 8]}), constants


def unrounded(constants, x):
    """The first convolution's values in units of the map's step; exact, all powers of two."""
    weights = int_quant(constants["w1"], 2.0**-7, 0, 8)
    return conv2d(x, weights, pads=(1, 1, 1, 1)) / STEP


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("mode", NAMES)
def test_hardware_integers_differ_at_ties_and_whole_numbers_only(tmp_path, mode, relu):
    """Nearest modes differ at ties; directed ones, half a unit in the bias, at whole numbers."""
    x = grid(8, 3, 8, 8, step=2.0**-5, seed=3)
    model, constants = two_layers(mode, relu=relu)
    got = hardware(tmp_path, model, x=x)
    values = unrounded(constants, x)
    exact = (np.maximum(values, 0) if relu else values) * STEP
    source = int_quant(exact.astype(np.float32), STEP, 0, 8, mode=mode)
    if mode in DIRECTED and not relu and mode not in {"FLOOR", "CEIL"}:
        # towards or away from zero on both sides: no bias does that
        assert got.classes()["map"] == "rescaled"
        assert np.abs(got.maps["map"] - source).max() <= STEP
        return
    assert got.classes()["map"] == "exact"
    doubtful = values == np.rint(values) if mode in DIRECTED else values % 1 == 0.5
    assert 0 < doubtful.mean() < 0.25
    differs = got.maps["map"] != source
    assert not (differs & ~doubtful).any()
    assert np.abs(got.maps["map"] - source).max() <= STEP
    if mode in {"ROUND", "HALF_EVEN"}:
        assert not differs.any()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("mode", ["HALF_UP", "DPU", "FLOOR", "DOWN", "UP"])
def test_hardware_that_rounds_like_the_source_has_all_its_integers(tmp_path, mode, relu):
    """The rounding of the hardware is an option; with the source's mode no tie is left over."""
    import dlaconv
    from dlaconv.options import Options
    from tests.frontends.builders import save

    rounding = {"HALF_UP": "half-away", "DPU": "half-dpu"}.get(mode, mode.lower())
    x = grid(8, 3, 8, 8, step=2.0**-5, seed=3)
    model, constants = two_layers(mode, relu=relu)
    target = tmp_path / "net.dla.onnx"
    options = Options(allow_violations=True, rounding=rounding)
    dlaconv.convert(save(tmp_path, model), target, options=options)
    maps = dlaconv.run(target, {"x": x}, hardware=options.hardware, as_float=True, fetch_all=True)
    values = (unrounded(constants, x) * STEP).astype(np.float32)
    values = np.maximum(values, 0) if relu else values
    assert np.array_equal(maps["map"], int_quant(values, STEP, 0, 8, mode=mode))


def test_floor_is_not_taken_for_nearest_even(tmp_path):
    """Converters that ignore rounding_mode give every map half a unit too much."""
    x = grid(8, 3, 8, 8, step=2.0**-5, seed=3)
    model, constants = two_layers("floor")
    got = hardware(tmp_path, model, x=x)
    values = unrounded(constants, x)
    inside = (values > -127) & (values < 126)
    assert abs(float((got.maps["map"] / STEP - values)[inside].mean()) + 0.5) < 0.05
    imported = load(tmp_path, model)
    assert [node.op_type for node in imported.model.graph if node.name == "quant_map"] == [
        "QuantizeFloor"
    ]
