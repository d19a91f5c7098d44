"""Quantisers of maps: signedness, zero points, chains, and what computes what they quantise."""

import numpy as np
import pytest
from onnx import helper

from tests.frontends.builders import QONNX, network, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import IMAGE, assert_computes, conv2d, grid, hardware, refusals

STEP, WEIGHT, MAP, RESULT = 2.0**-5, 2.0**-7, 2.0**-4, 2.0**-3
WEIGHTS = random(4, 3, 3, 3, seed=1, spread=0.2)
SECOND = random(4, 4, 1, 1, seed=2, spread=0.3)
X = grid(4, 3, 8, 8, step=STEP, seed=9)
FIRST = conv2d(X, int_quant(WEIGHTS, WEIGHT, 0, 8)).astype(np.float32)
"""The first convolution's values, which every test's quantiser rounds."""


def net(*nodes, reads="m", **more):
    """Quant -> Conv ("c") -> ``nodes`` -> 1x1 Conv on ``reads`` -> Quant."""
    made = [
        quant("x", "xq"),
        quant("w", "wq", "ws"),
        ("Conv", ["xq", "wq"], ["c"]),
        *nodes,
        quant("v", "vq", "ws"),
        ("Conv", [reads, "vq"], ["d"]),
        quant("d", "y", "ys"),
    ]
    given = {
        "w": WEIGHTS, "v": SECOND, "ws": np.float32(WEIGHT), "ms": np.float32(MAP),
        "ys": np.float32(RESULT), **more,
    }  # fmt: skip
    return network(made, parameters(scale=STEP) | given, IMAGE)


def after(middle):
    """The network's result for the values of the map that the second convolution reads."""
    return int_quant(
        conv2d(middle, int_quant(SECOND, WEIGHT, 0, 8)).astype(np.float32), RESULT, 0, 8
    )


def test_eight_unsigned_bits_lose_one_bit_and_never_half_their_range(tmp_path):
    """ReLU outputs are uint8 by default; an int8 map with the same scale would end at 127."""
    middle = int_quant(np.maximum(FIRST, 0), 2.0**-6, 0, 8, signed=0)
    assert (middle > 127 * 2.0**-6).mean() > 0.05
    nodes = [("Relu", ["c"], ["r"]), quant("r", "m", "fs", signed=0)]
    got = hardware(tmp_path, net(*nodes, fs=np.float32(2.0**-6)), x=X)
    assert got.classes()["m"] == "rescaled"
    assert got.row("m")["target"]["real_step"] == 2.0**-5
    assert np.abs(got.maps["m"] - middle).max() <= 2.0**-6


@pytest.mark.parametrize("relu", [True, False])
def test_seven_unsigned_bits_are_exact_with_or_without_a_relu(tmp_path, relu):
    """An unsigned quantiser clips at zero whether or not a Relu stands before it."""
    middle = int_quant(FIRST, MAP, 0, 7, signed=0)
    assert (middle == 0).mean() > 0.3
    nodes = [("Relu", ["c"], ["r"])] if relu else []
    nodes.append(quant("r" if relu else "c", "m", "ms", bits="b7", signed=0))
    model = net(*nodes, b7=np.float32(7))
    assert_computes(tmp_path, model, after(middle), x=X)
    got = hardware(tmp_path, model, x=X)
    assert got.classes()["m"] == "exact"
    assert np.array_equal(got.outputs["y"], after(middle))


def test_a_signed_quantiser_behind_a_relu_uses_half_its_codes(tmp_path):
    """QuantReLU with an Int8Act quantiser: signed=1, though nothing is negative."""
    model = net(("Relu", ["c"], ["r"]), quant("r", "m", "ms"))
    wanted = after(int_quant(np.maximum(FIRST, 0), MAP, 0, 8))
    assert_computes(tmp_path, model, wanted, x=X)
    assert np.array_equal(hardware(tmp_path, model, x=X).outputs["y"], wanted)


@pytest.mark.parametrize("bits", [4, 8])
def test_unsigned_and_narrow_leaves_the_largest_code_out(tmp_path, bits):
    """0..254, or 0..14."""
    node = quant("c8", "m", "ms", bits="few", signed=0, narrow=1)
    middle = int_quant(FIRST * 8, MAP, 0, bits, signed=0, narrow=1)
    assert middle.max() == (2**bits - 2) * MAP
    model = net(("Mul", ["c", "eight"], ["c8"]), node, few=np.float32(bits), eight=np.float32(8))
    assert_computes(tmp_path, model, after(middle), x=X)


def test_a_hard_tanh_is_a_quantiser_alone(tmp_path):
    """QuantHardTanh exports no Clip and no Tanh: the ends of the codes do it."""
    middle = int_quant(FIRST, 2.0**-7, 0, 8)
    assert (np.abs(middle) >= 127 / 128).mean() > 0.1
    model = net(quant("c", "m", "ts"), ts=np.float32(2.0**-7))
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.outputs["y"], after(middle))


def test_a_sigmoid_with_its_unsigned_quantiser(tmp_path):
    """Sigmoid -> Quant(signed=0): between 0 and 1, so signed hardware has 7 bits of it."""
    nodes = [quant("c", "q", "ms"), ("Sigmoid", ["q"], ["g"]), quant("g", "m", "gs", signed=0)]
    model = net(*nodes, gs=np.float32(2.0**-8))
    exact = 1 / (1 + np.exp(-int_quant(FIRST, MAP, 0, 8).astype(np.float64)))
    got = hardware(tmp_path, model, x=X)
    assert got.row("m")["target"]["real_step"] == 2.0**-7
    assert np.array_equal(got.maps["m"] * 128, np.rint(exact * 128).clip(0, 127))


def test_a_relu6_whose_lower_bound_is_the_shared_zero_point(tmp_path):
    """The dynamo exporter lets Clip read the zero point of all quantisers as its minimum."""
    middle = int_quant(np.clip(FIRST * 2, 0, 6), MAP, 0, 8, signed=0)
    assert (middle == 6).any()
    nodes = [
        ("Add", ["c", "c"], ["e"]),
        ("Clip", ["e", "z", "six"], ["r"]),
        quant("r", "m", "ms", signed=0),
    ]
    assert_computes(tmp_path, net(*nodes, six=np.float32(6)), after(middle), x=X)


# Zero points.


def inside(units, zero, bits, signed):
    """Where a source's quantiser does not clip."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    return np.logical_and(units > low - zero, units < high - 1 - zero)


@pytest.mark.parametrize(
    ("zero", "signed", "bits"), [(128, 0, 8), (8, 0, 4), (-3, 1, 4), (64, 0, 7)]
)
def test_a_zero_point_that_can_be_shifted_away_costs_nothing(tmp_path, zero, signed, bits):
    """uint8 with 128 is int8 with 0; so is every range that fits 8 bits around zero."""
    step = 2.0**-4 if bits > 4 else 2.0**-1
    node = quant("c", "m", "zs", "mz", bits="mb", signed=signed)
    more = {"zs": np.float32(step), "mz": np.float32(zero), "mb": np.float32(bits)}
    model = net(node, **more)
    middle = int_quant(FIRST, step, zero, bits, signed=signed)
    assert_computes(tmp_path, model, after(middle), x=X)
    got = hardware(tmp_path, model, x=X)
    assert got.classes()["m"] == ("rescaled" if zero % 2 else "exact")  # ties go to odd integers
    unclipped = inside(FIRST / step, zero, bits, signed)
    assert unclipped.mean() > 0.5
    sure = unclipped & (FIRST / step % 1 != 0.5)
    assert np.array_equal(got.maps["m"][sure], middle[sure])


def test_an_odd_zero_point_differs_at_ties_only_and_by_a_unit(tmp_path):
    """Half-even of x/s + 127 goes to odd integers of x/s."""
    node = quant("c", "m", "ms", "mz", bits="b7", signed=0)
    model = net(node, mz=np.float32(63), b7=np.float32(7))
    middle = int_quant(FIRST, MAP, 63, 7, signed=0)
    got = hardware(tmp_path, model, x=X)
    inside = np.abs(FIRST / MAP) < 62
    off = np.abs(got.maps["m"] - middle)[inside]
    ties = (FIRST / MAP % 1 == 0.5)[inside]
    assert 0 < (off > 0).sum() <= ties.sum()
    assert not off[~ties].any()
    assert off.max() == MAP


@pytest.mark.parametrize(("zero", "signed"), [(5, 1), (-20, 1), (100, 0), (3, 0)])
def test_a_zero_point_that_does_not_fit_is_rounded_anew_and_never_ignored(tmp_path, zero, signed):
    """The range around zero needs a ninth bit: the step is widened, by as much as that takes."""
    node = quant("c", "m", "fs", "mz", signed=signed)
    model = net(node, fs=np.float32(2.0**-5), mz=np.float32(zero))
    middle = int_quant(FIRST, 2.0**-5, zero, 8, signed=signed)
    assert_computes(tmp_path, model, after(middle), x=X)
    got = hardware(tmp_path, model, x=X)
    assert got.classes()["m"] == "rescaled"
    row = got.row("m")
    assert row["source"]["zero_point"] == zero
    unclipped = inside(FIRST / 2.0**-5, zero, 8, signed)
    bound = (row["target"]["real_step"] + 2.0**-5) / 2
    assert np.abs(got.maps["m"] - middle)[unclipped].max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("zero", [0.5, np.nan, np.inf])
def test_a_zero_point_between_integers_on_a_map_is_refused(tmp_path, zero):
    """No integer of the hardware stands for zero then, so pads and ReLUs would be off."""
    (error,) = refusals(tmp_path, net(quant("c", "m", "ms", "mz"), mz=np.float32(zero)))
    assert (error.rule, error.location.layer) == ("DLA106", "quant_m")


def test_one_signed_bit_has_no_zero_point(tmp_path):
    """A sign of x/s + 1 is no sign of x."""
    node = quant("c", "m", "ms", "mz", bits="b1")
    (error,) = refusals(tmp_path, net(node, mz=np.float32(1), b1=np.float32(1)))
    assert (error.rule, error.location.layer) == ("DLA106", "quant_m")


@pytest.mark.parametrize("zero", [2.0, -1.0])
def test_an_input_with_a_zero_point_is_fed_as_the_report_says(tmp_path, zero):
    """The host rounds to the widened step; nothing of the source's zero point is left to it."""
    nodes = [quant("x", "m", "s", "mz"), quant("v", "vq", "ws"), ("Conv", ["m", "vq"], ["d"])]
    nodes.append(quant("d", "y", "ys"))
    weights = random(4, 3, 1, 1, seed=2, spread=0.3)
    given = {
        "v": weights, "ws": np.float32(WEIGHT), "ys": np.float32(RESULT), "mz": np.float32(zero)
    }  # fmt: skip
    got = hardware(tmp_path, network(nodes, parameters(scale=STEP) | given, IMAGE), x=X)
    (port,) = got.report["io"]["inputs"]
    fed = np.clip(np.rint(X / port["real_step"]), port["qmin"], port["qmax"]) * port["real_step"]
    middle = int_quant(X, STEP, zero, 8)
    assert np.abs(fed - middle).max() <= port["real_step"] / 2
    wanted = conv2d(fed, int_quant(weights, WEIGHT, 0, 8)).astype(np.float32)
    assert np.array_equal(got.outputs["y"], int_quant(wanted, RESULT, 0, 8))


# Chains.


def test_a_quantiser_on_a_quantised_map_is_a_rounding_of_its_own(tmp_path):
    """uint8 -> int8 on a skip branch: removing one, as graph optimisers do, is another network."""
    nodes = [("Relu", ["c"], ["r"]), quant("r", "q", "ms", bits="b7", signed=0)]
    nodes.append(quant("q", "m", "coarse"))
    model = net(*nodes, b7=np.float32(7), coarse=np.float32(2.0**-2))
    once = int_quant(np.maximum(FIRST, 0), 2.0**-2, 0, 8)
    middle = int_quant(int_quant(np.maximum(FIRST, 0), MAP, 0, 7, signed=0), 2.0**-2, 0, 8)
    assert (once != middle).any()
    assert_computes(tmp_path, model, after(middle), x=X)
    got = hardware(tmp_path, model, x=X)
    assert [item["exact"] for item in got.rewrites("requantise")] == [True]
    assert np.array_equal(got.maps["m"], middle)
    assert np.array_equal(got.outputs["y"], after(middle))


def test_quantising_twice_on_one_grid_is_quantising_once(tmp_path):
    """A shared QuantIdentity is written once per use."""
    model = net(quant("c", "q", "ms"), quant("q", "m", "ms"))
    got = hardware(tmp_path, model, x=X)
    assert not got.rewrites("requantise")
    assert np.array_equal(got.outputs["y"], after(int_quant(FIRST, MAP, 0, 8)))


def test_two_quantisers_on_one_unrounded_map_round_it_twice(tmp_path):
    """B(A(x)) is not B(x): the layer is computed for each of them."""
    nodes = [quant("c", "a", "ms"), quant("c", "e", "coarse"), ("Add", ["a", "e"], ["f"])]
    nodes.append(quant("f", "m", "coarse"))
    model = net(*nodes, coarse=np.float32(2.0**-2))
    a, b = int_quant(FIRST, MAP, 0, 8), int_quant(FIRST, 2.0**-2, 0, 8)
    middle = int_quant(a + b, 2.0**-2, 0, 8)
    assert_computes(tmp_path, model, after(middle), x=X)
    got = hardware(tmp_path, model, x=X)
    assert got.rewrites("single_use")
    assert np.array_equal(got.outputs["y"], after(middle))


@pytest.mark.parametrize("name", ["ms", "mz", "mb"])
def test_a_parameter_that_depends_on_the_data_is_refused(tmp_path, name):
    """Dynamic quantisers have a step per inference; the compiled network has one for all."""
    nodes = [("ReduceMax", ["c"], [name], {"keepdims": 0}), quant("c", "m", "ms", "mz", "mb")]
    more = {"mz": np.float32(0), "mb": np.float32(8)}
    model = net(*nodes, **{key: value for key, value in more.items() if key != name})
    constants = [item for item in model.graph.initializer if item.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    (error,) = refusals(tmp_path, model)
    assert (error.rule, error.location.layer) == ("DLA104", "quant_m")


@pytest.mark.parametrize("relu", ["Relu", "LeakyRelu"])
def test_an_activation_behind_a_sign_is_computed_with_it(tmp_path, relu):
    """The layer that takes the sign can have an activation behind its rounding."""
    sign = helper.make_node("BipolarQuant", ["c", "os"], ["sg"], name="sign", domain=QONNX)
    attributes = {"alpha": 0.5} if relu == "LeakyRelu" else {}
    nodes = [sign, (relu, ["sg"], ["r"], attributes), quant("r", "m", "ms")]
    model = net(*nodes, os=np.float32(1), ms=np.float32(2.0**-5))
    signs = np.where(FIRST >= 0, np.float32(1), np.float32(-1))
    middle = np.where(signs < 0, signs * (0.5 if attributes else 0), signs).astype(np.float32)
    got = hardware(tmp_path, model, x=X)
    assert np.array_equal(got.maps["m"], middle)


def test_a_layer_that_reads_a_quantised_constant_is_refused(tmp_path):
    """Nothing of the input reaches it, so there is no map to give the hardware."""
    nodes = [quant("k", "kq"), ("Relu", ["kq"], ["r"]), quant("r", "m", "ms")]
    found = refusals(tmp_path, net(*nodes, k=random(1, 4, 6, 6)))
    assert {error.rule for error in found} == {"DLA303"}
    assert "a constant" in found[0].message
