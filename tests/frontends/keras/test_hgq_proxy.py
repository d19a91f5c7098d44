"""Proxies of HGQ, the first version: quantisers between layers of Keras 2."""

import math

import numpy as np
import pytest

import dlaconv
from dlaconv.frontends.keras.dialects.integers import dyadic
from dlaconv.ir import dialect
from tests.frontends.keras.files import L, findings, given, load, one_layer, outputs_of, save
from tests.frontends.keras.test_hgq import one, values

ROUNDINGS = {
    "RND": lambda x: math.floor(x + 0.5),
    "RND_CONV": round,
    "RND_INF": lambda x: math.copysign(math.floor(abs(x) + 0.5), x),
    "RND_ZERO": lambda x: math.copysign(math.ceil(abs(x) - 0.5), x),
    "TRN": math.floor,
    "TRN_ZERO": math.trunc,
}


def quantizer(name, k, b, i, rounding="TRN", overflow="WRAP", reads=("x0",), module=True):
    """A FixedPointQuantizer; bits and integer bits count the sign."""
    arrays = [np.asarray(a, np.int8) for a in (k, b, i)]
    given_config = {"RND": rounding, "SAT": overflow, "shape": list(arrays[1].shape)}
    given_config |= {"overrides": {"layers": {}}, "fusible": False}
    weights = dict(zip(("keep_negative", "bits", "integers"), arrays, strict=True))
    kind = "FixedPointQuantizer" if module else "HGQ>FixedPointQuantizer"
    own = L(kind, name, list(reads), given_config, weights)
    own.module = "HGQ.proxy.fixed_point_quantizer" if module else None
    return own


def wanted(x, k, b, i, rounding, overflow):
    k, b, i = (np.broadcast_to(a, x.shape).reshape(-1) for a in (k, b, i))
    found = []
    for value, sign, bits, integers in zip(x.reshape(-1), k, b, i, strict=True):
        f = int(bits) - int(integers)
        whole = ROUNDINGS[rounding](float(value) * 2.0**f) / 2.0**f if bits else 0
        found.append(one(whole, sign, integers - sign, f, "RND_CONV", overflow) if bits else 0)
    return np.float32(found).reshape(x.shape)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM", "WRAP"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_bits_of_each_element_count_the_sign(tmp_path, rounding, overflow, ending):
    k, b, i = [[1, 0, 0, 1]], [[6, 3, 0, 2]], [[3, 3, 0, 4]]
    x = np.concatenate([values(30, 4) * 6, np.arange(-96, 96).reshape(48, 4) / 16])
    x = x.astype(np.float32)
    own = quantizer("q", k, b, i, rounding, overflow, module=ending == ".keras")
    found = one_layer(tmp_path, own, x, generation=2, ending=ending)
    np.testing.assert_array_equal(found, wanted(x, k, b, i, rounding, overflow))


def test_a_quantiser_may_have_one_width_without_axes(tmp_path):
    x = values(20, 3) * 9
    found = one_layer(tmp_path, quantizer("q", 1, 5, 3), x, generation=2)
    np.testing.assert_array_equal(found, wanted(x, 1, 5, 3, "TRN", "WRAP"))


def test_a_sign_without_bits_is_none(tmp_path):
    x = values(4, 2) * 9
    found = one_layer(tmp_path, quantizer("q", [[1, 1]], [[0, 4]], [[-3, 2]]), x, generation=2)
    np.testing.assert_array_equal(found, wanted(x, [[0, 1]], [[0, 4]], [[0, 2]], "TRN", "WRAP"))


def network(tmp_path, kernel):
    layers = [
        given("x", (16,)),
        quantizer("in", 1, 8, 2, "RND", "SAT", ["x"]),
        L("Dense", "d", ["in"], {"units": 16}, {"kernel": kernel, "bias": np.ones(16, np.float32)}),
        quantizer("out", 1, 8, 4, "RND", "SAT", ["d"]),
    ]
    return save(tmp_path / "net.keras", layers, ["out"], generation=2)


def test_quantised_weights_are_integers_and_all_is_exact_on_hardware(tmp_path):
    kernel = np.round(values(16, 16) * 16).clip(-90, 90) / np.float32(16)
    path = network(tmp_path, kernel)
    [holder, bias] = [n for n in load(path).model.graph if dialect.is_dequantize(n)]
    integers = holder.inputs[0].const_value.numpy()
    assert integers.dtype == np.int8
    np.testing.assert_array_equal(integers * dialect.step_of(holder), kernel)
    assert dialect.step_of(bias) == 1
    asked = dlaconv.Options(rounding="half-up")
    done = dlaconv.convert(path, tmp_path / "net.dla.onnx", options=asked)
    tensors = done.report["tensors"]
    assert {row["class"] for row in tensors if row["kind"] in {"map", "weight"}} == {"exact"}
    x = values(9, 16)
    [reference] = outputs_of(path, x=x)
    hardware = dlaconv.Hardware(rounding="half-up")
    found = dlaconv.run(tmp_path / "net.dla.onnx", {"x": x}, as_float=True, hardware=hardware)
    np.testing.assert_array_equal(found["out"], reference)


def test_two_quantisers_around_a_relu_are_one_rounding(tmp_path):
    """HGQ puts a finer one that rounds down in front of the ReLU, and one behind it."""
    kernel = np.round(values(16, 16) * 16).clip(-90, 90) / np.float32(16)
    layers = [
        given("x", (16,)),
        quantizer("in", 1, 8, 2, "RND", "SAT", ["x"]),
        L("Dense", "d", ["in"], {"units": 16, "use_bias": False}, {"kernel": kernel}),
        quantizer("finer", 1, 9, 5, "TRN", "SAT", ["d"]),
        L("ReLU", "r", ["finer"]),
        quantizer("out", 0, 7, 4, "RND", "SAT", ["r"]),
    ]
    path = save(tmp_path / "net.keras", layers, ["out"], generation=2)
    asked = dlaconv.Options(rounding="half-up")
    done = dlaconv.convert(path, tmp_path / "net.dla.onnx", options=asked)
    maps = [row for row in done.report["tensors"] if row["kind"] == "map"]
    assert [(row["name"], row["class"]) for row in maps] == [
        ("in", "exact"),
        ("out", "exact"),
    ]
    x = values(9, 16) * 2
    [reference] = outputs_of(path, x=x)
    hardware = dlaconv.Hardware(rounding="half-up")
    found = dlaconv.run(tmp_path / "net.dla.onnx", {"x": x}, as_float=True, hardware=hardware)
    np.testing.assert_array_equal(found["out"], reference)
    assert len(np.unique(reference)) > 16


def test_weights_of_too_many_bits_stay_real(tmp_path):
    path = network(tmp_path, values(16, 16))
    assert len([n for n in load(path).model.graph if dialect.is_dequantize(n)]) == 1  # the bias


def test_values_that_were_rounded_are_integers_of_the_coarsest_grid():
    found = dyadic(np.float32([[0.75, 6.0], [-1.5, 0.0], [0.0, -4.0]]), 8)
    np.testing.assert_array_equal(found.step, [[0.75 / 3, 2.0]])
    np.testing.assert_array_equal(found.values, [[3, 3], [-6, 0], [0, -2]])
    with pytest.raises(OverflowError):
        dyadic(np.float32([1, 1 / 256]), 8)
    with pytest.raises(OverflowError):
        dyadic(np.float32([1, np.inf]), 8)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"RND": "RND_MIN_INF"}, "DLA178"),
        ({"SAT": "WRAP_SM"}, "DLA178"),
        ({"SAT": "SAT_ZERO"}, "DLA178"),
        ({"shape": None}, "DLA108"),
        ({"shape": [1 << 20, 1 << 20]}, "DLA108"),
        ({"shape": [3]}, "DLA177"),
    ],
)
def test_other_quantisers_are_refused(tmp_path, change, rule):
    own = quantizer("q", [1], [4], [2], reads=["x"])
    own.config |= change
    [(found, _)] = findings(save(tmp_path / "m.keras", [given("x", (2,)), own], ["q"], 2))
    assert found == rule


def test_signs_that_are_none_are_refused(tmp_path):
    own = quantizer("q", [2], [4], [2], reads=["x"])
    [(rule, message)] = findings(save(tmp_path / "m.keras", [given("x", (2,)), own], ["q"], 2))
    assert (rule, "no numbers of bits" in message) == ("DLA108", True)


@pytest.mark.parametrize("kind", ["HConv2D", "HQuantize", "UnaryLUT"])
def test_what_is_no_proxy_says_how_to_make_one(tmp_path, kind):
    own = L(kind, "q", ["x"], {"paq_conf": {}})
    own.module = "HGQ.layers"
    [(rule, message)] = findings(save(tmp_path / "m.keras", [given("x", (2,)), own], ["q"], 2))
    assert (rule, f"{kind} of HGQ is" in message) == ("DLA180", True)
