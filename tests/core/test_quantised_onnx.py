"""Every style of quantised ONNX, from the file to the accelerator's: whose integers are kept."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlaconv
from dlaconv.errors import UserError
from dlaconv.options import Options
from tests.frontends.builders import random, save
from tests.frontends.onnx.plain import MICROSOFT, contrib, plain

RNG = np.random.default_rng(0)
CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
FIRST = RNG.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
SECOND = RNG.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
BIAS = RNG.integers(-900, 900, 16).astype(np.int32)
SCALES = (RNG.uniform(0.5, 1, 16) * 0.004).astype(np.float32)
SAMPLES = RNG.normal(size=(12, 16, 8, 8)).astype(np.float32)
X, A, Y = (np.float32(step) for step in (0.031, 0.1, 0.25))
INT8 = np.int8(0)


def pair(x, y, scale, zero="z", **attributes):
    return [
        ("QuantizeLinear", [x, scale, zero], [f"{y}_q"], attributes),
        ("DequantizeLinear", [f"{y}_q", scale, zero], [y], attributes),
    ]


def weights(name, **attributes):
    return ("DequantizeLinear", [f"{name}_q", "ws", "wz"], [name], {"axis": 0, **attributes})


def constants(zero=INT8, **more):
    return {
        "sx": X, "sa": A, "sy": Y, "z": zero, "ws": SCALES, "wz": np.zeros(16, np.int8),
        "w1_q": FIRST, "w2_q": SECOND, "b1_q": BIAS, "bs": SCALES * X, "bz": np.zeros(16, np.int32),
        **more,
    }  # fmt: skip


def both_layers(first, between, last, bias=True):
    """Two convolutions with a ReLU behind the first."""
    bias_input = ["b1"] if bias else []
    return [
        *first,
        weights("w1"),
        *([("DequantizeLinear", ["b1_q", "bs", "bz"], ["b1"], {"axis": 0})] if bias else []),
        ("Conv", ["a", "w1", *bias_input], ["c"], CONV),
        ("Relu", ["c"], ["r"]),
        *between,
        weights("w2"),
        ("Conv", ["d", "w2"], ["e"], CONV),
        *last,
    ]


def network(nodes, initial, opset=18, **more):
    return plain(nodes, initial, {"x": [1, 16, 8, 8]}, opset=opset, **more)


def qdq(zero=INT8):
    nodes = both_layers(pair("x", "a", "sx"), pair("r", "d", "sa"), pair("e", "y", "sy"))
    return network(nodes, constants(zero))


def weight_only():
    """onnxruntime's and others': DequantizeLinear of weights, and nothing else."""
    first = [("Identity", ["x"], ["a"])]
    between, last = [("Identity", ["r"], ["d"])], [("Identity", ["e"], ["y"])]
    return network(both_layers(first, between, last), constants())


def mixed():
    """The map between the layers is not quantised, nor are the weights of the second."""
    nodes = [
        *pair("x", "a", "sx"),
        weights("w1"),
        ("Conv", ["a", "w1"], ["c"], CONV),
        ("Relu", ["c"], ["d"]),
        ("Conv", ["d", "w2"], ["e"], CONV),
        *pair("e", "y", "sy"),
    ]
    return network(nodes, constants(w2=random(16, 16, 3, 3, spread=0.1)))


def qcdq(bits):
    """Brevitas: the bounds of a Clip say how many bits there are."""
    low, high = np.int8(-(1 << (bits - 1))), np.int8((1 << (bits - 1)) - 1)

    def clipped(x, y, scale):
        return [
            ("QuantizeLinear", [x, scale, "z"], [f"{y}_q"]),
            ("Clip", [f"{y}_q", "low", "high"], [f"{y}_k"]),
            ("DequantizeLinear", [f"{y}_k", scale, "z"], [y]),
        ]

    def narrow(name):
        return [
            ("Clip", [f"{name}_q", "low", "high"], [f"{name}_k"]),
            ("DequantizeLinear", [f"{name}_k", "ws", "wz"], [name], {"axis": 0}),
        ]

    nodes = [
        *clipped("x", "a", "sx"),
        *narrow("w1"),
        ("Conv", ["a", "w1"], ["c"], CONV),
        ("Relu", ["c"], ["r"]),
        *clipped("r", "d", "sa"),
        *narrow("w2"),
        ("Conv", ["d", "w2"], ["e"], CONV),
        *clipped("e", "y", "sy"),
    ]
    coarser = np.float32(128 >> bits)
    steps = {"sx": X * coarser, "sa": A * coarser, "sy": Y * coarser, "ws": SCALES * coarser}
    return network(nodes, constants(low=low, high=high) | steps)


def trained(kind):
    """PyTorch: pairs around float weights, Div before BatchNormalization, scales of shape [1]."""
    one = {"sx": X.reshape(1), "sa": A.reshape(1), "z": np.asarray([99 if kind == np.uint8 else 0],
           kind)}  # fmt: skip
    exact = FIRST * SCALES.reshape(-1, 1, 1, 1)
    nodes = [
        *pair("x", "a", "sx"),
        ("QuantizeLinear", ["w1", "ws", "wz"], ["w1_i"], {"axis": 0}),
        ("DequantizeLinear", ["w1_i", "ws", "wz"], ["w1_d"], {"axis": 0}),
        ("Conv", ["a", "w1_d"], ["c"], CONV),
        ("Div", ["c", "factor"], ["f"]),
        ("BatchNormalization", ["f", "gain", "shift", "mean", "var"], ["n"]),
        ("Relu", ["n"], ["r"]),
        *pair("r", "d", "sa"),
        weights("w2"),
        ("Conv", ["d", "w2"], ["e"], CONV),
        *pair("e", "y", "sy1"),
    ]
    values = {
        "w1": exact.astype(np.float32), "factor": random(1, 16, 1, 1, seed=2) ** 2 + 0.5,
        "gain": random(16, seed=2) ** 2 + 0.5, "shift": random(16, seed=3) / 99,
        "mean": random(16, seed=4) / 99, "var": np.ones(16, np.float32), "sy1": Y.reshape(1),
    }  # fmt: skip
    return network(nodes, constants() | one | values, opset=13)


def qoperator(zero, kind):
    """QLinearConv, and the operators that onnxruntime adds."""
    s, w = ("sx", "z"), ("ws1", "wz1")
    nodes = [
        ("QuantizeLinear", ["x", *s], ["q"]),
        helper.make_node("QLinearConv", ["q", *s, "w1_q", *w, "sa", "z", "b1_q"], ["c"],
                         name="first", **CONV),
        helper.make_node("QLinearConv", ["c", "sa", "z", "w2_q", *w, "sy", "z"], ["d"],
                         name="second", **CONV),
        contrib("QLinearAdd", ["d", "sy", "z", "q", *s, "sy", "z"], ["e"]),
        contrib("QLinearGlobalAveragePool", ["e", "sy", "z", *s], ["g"]),
        ("Flatten", ["g"], ["h"]),
        contrib("QGemm", ["h", *s, "fc", *w, "", *s], ["o"], transB=1),
        ("DequantizeLinear", ["o", *s], ["y"]),
    ]  # fmt: skip
    more = {"ws1": np.float32(0.003), "wz1": np.int8(0), "fc": FIRST[:, :, 0, 0].copy()}
    return network(nodes, constants(kind(zero)) | more, domains=[(MICROSOFT, 1)])


def dynamic():
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "dz"]),
        ("ConvInteger", ["q", "w1_q", "dz"], ["i"], CONV),
        ("Mul", ["s", "one"], ["both"]),
        ("Cast", ["i"], ["f"], {"to": TensorProto.FLOAT}),
        ("Mul", ["f", "both"], ["m"]),
        ("Relu", ["m"], ["y"]),
    ]
    return network(nodes, {"w1_q": FIRST, "one": np.float32(0.004)})


STYLES = {
    "qdq int8": (qdq, [FIRST, SECOND]),
    "qdq uint8 of 128": (lambda: qdq(np.uint8(128)), [FIRST, SECOND]),
    "qdq uint8": (lambda: qdq(np.uint8(100)), [FIRST, SECOND]),
    "weights only": (weight_only, [FIRST, SECOND]),
    "mixed": (mixed, [FIRST]),
    "qcdq of 4 bits": (lambda: qcdq(4), [np.clip(FIRST, -8, 7), np.clip(SECOND, -8, 7)]),
    "qcdq of 7 bits": (lambda: qcdq(7), [np.clip(FIRST, -64, 63), np.clip(SECOND, -64, 63)]),
    "trained int8": (lambda: trained(np.int8), [FIRST, SECOND]),
    "trained uint8": (lambda: trained(np.uint8), [FIRST, SECOND]),
    "qoperator int8": (lambda: qoperator(0, np.int8), [FIRST, SECOND, FIRST[:, :, 0, 0]]),
    "qoperator uint8": (lambda: qoperator(117, np.uint8), [FIRST, SECOND, FIRST[:, :, 0, 0]]),
    "dynamic": (dynamic, [FIRST]),
}
UNQUANTISED = {"weights only", "mixed", "dynamic"}
"""Styles in which some map has no scale."""


def converted(folder, name, **options):
    source = save(folder, STYLES[name][0]())
    np.savez(folder / "x.npz", x=SAMPLES)
    target = folder / "net.dla.onnx"
    options = {"calibrate": folder / "x.npz", "samples": 6, **options}
    return dlaconv.convert(source, target, options=Options(**options)), target


def integers(path):
    """Weights of all layers of a file, by their scales."""
    model = onnx.load(path)
    known = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    found = []
    for node in model.graph.node:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if "weight_ch_scales" in attributes:
            array = known[node.input[1]].astype(np.float64)
            scales = np.reshape(attributes["weight_ch_scales"], (-1,) + (1,) * (array.ndim - 1))
            found.append(np.rint(array / scales).astype(int))
    return found


@pytest.mark.parametrize("name", STYLES)
def test_weights_keep_their_integers_and_every_layer_is_as_near_as_roundings_are(tmp_path, name):
    found, path = converted(tmp_path, name)
    written = integers(path)
    for wanted in STYLES[name][1]:
        assert any(np.array_equal(array.reshape(-1), wanted.reshape(-1)) for array in written
                   if array.size == wanted.size), name  # fmt: skip
    report = found.report
    assert report["verification"]["passed"]
    classes = {row["name"]: row["class"] for row in report["tensors"] if row["kind"] == "map"}
    assert ("derived" in classes.values()) == (name in UNQUANTISED)
    for output in report["verification"]["outputs"].values():
        assert output["qsnr_db"] > (8 if "4 bits" in name else 20)
    assert all(item.rule in {"DLA122", "DLA211", "DLA902", "DLA904"} for item in found.diagnostics)


@pytest.mark.parametrize("name", ["qdq int8", "qdq uint8 of 128"])
def test_signed_maps_keep_theirs_too(tmp_path, name):
    found, _ = converted(tmp_path, name, io="absorb")
    rows = [row for row in found.report["tensors"] if row["kind"] == "map"]
    assert [row["class"] for row in rows] == ["exact"] * len(rows)
    for row in found.report["verification"]["maps"]:
        share = row["local"]["differing"] / row["local"]["count"]
        assert share <= 1.1 * (row["predicted_share"] or 0) + 0.002


def test_the_quantised_part_of_a_mixed_network_keeps_its_maps(tmp_path):
    found, _ = converted(tmp_path, "mixed", io="absorb")
    rows = {row["layer"]: row for row in found.report["tensors"] if row["kind"] == "map"}
    classes = sorted(row["class"] for row in rows.values())
    assert classes == ["derived", "exact", "exact"]
    weights_of = [row["class"] for row in found.report["tensors"] if row["kind"] == "weight"]
    assert sorted(weights_of) == ["derived", "rescaled"]


@pytest.mark.parametrize("name", ["weights only", "dynamic"])
def test_maps_without_scales_ask_for_calibration(tmp_path, name):
    with pytest.raises(UserError) as caught:
        converted(tmp_path, name, calibrate=None)
    errors = caught.value.diagnostics.errors
    assert [error.rule for error in errors] == ["DLA205"]
    assert "--calibrate" in errors[0].help
    assert not (tmp_path / "net.dla.onnx").exists()


def test_a_map_between_others_gets_a_bound_and_is_warned_of(tmp_path):
    found, _ = converted(tmp_path, "mixed", calibrate=None)
    [warning] = [item for item in found.diagnostics if item.rule == "DLA207"]
    assert "--calibrate" in warning.help


def test_without_calibration_data_what_is_quantised_whole_converts(tmp_path):
    for name in STYLES.keys() - UNQUANTISED:
        found, path = converted(tmp_path, name, calibrate=None)
        assert found.report["verification"]["passed"], name
        assert path.exists()
