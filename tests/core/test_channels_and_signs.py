"""Steps per channel and signs, from a QONNX file to the report and the simulator."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper

import dlaconv
from dlaconv.options import Options
from tests.frontends.builders import QONNX, network, quant, save

CHANNELS = 16
SIZE = 10


class Source:
    """A QONNX file in the making, with power-of-two scales unless told otherwise."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {"z": np.zeros((), np.float32)}

    def constant(self, name: str, array) -> str:
        self.constants[name] = np.asarray(array, np.float32)
        return name

    def quant(self, x: str, y: str, step, bits: int = 8, **attributes) -> str:
        scale, width = self.constant(f"{y}_s", step), self.constant(f"{y}_b", bits)
        self.nodes.append(quant(x, y, scale, "z", width, **attributes))
        return y

    def sign(self, x: str, y: str, step=1.0) -> str:
        scale = self.constant(f"{y}_s", step)
        self.nodes.append(
            helper.make_node("BipolarQuant", [x, scale], [y], name=f"sign_{y}", domain=QONNX)
        )
        return y

    def op(self, op: str, inputs: list[str], y: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [y], name=f"{op.lower()}_{y}", **attributes))
        return y

    def conv(self, x: str, y: str, weight: str, group: int = 1, unit: float = 2.0**-6) -> str:
        self.constant(f"{y}_c", np.rint(self.random.normal(size=CHANNELS) * 8) * unit)
        return self.op("Conv", [x, weight, f"{y}_c"], y, kernel_shape=[3, 3], pads=[1] * 4,
                       group=group)  # fmt: skip

    def weights(self, name: str, step, bits: int, inputs: int = CHANNELS) -> str:
        shape = (CHANNELS, inputs, 3, 3)
        raw = self.random.normal(size=shape) * np.max(step) * (1 << (bits - 2))
        self.constant(f"{name}_raw", raw)
        return self.quant(f"{name}_raw", name, step, bits, narrow=1)

    def binary(self, name: str, step: float) -> str:
        self.constant(f"{name}_raw", self.random.normal(size=(CHANNELS, CHANNELS, 3, 3)))
        return self.sign(f"{name}_raw", name, step)

    def batch_norm(self, x: str, y: str) -> str:
        gamma = self.random.choice([-2.0, -0.5, 0.5, 1.0], CHANNELS)
        values = {"g": gamma, "o": np.rint(self.random.normal(size=CHANNELS) * 8) / 8,
                  "m": np.rint(self.random.normal(size=CHANNELS) * 8) / 8,
                  "v": np.ones(CHANNELS)}  # fmt: skip
        names = [self.constant(f"{y}_{key}", value) for key, value in values.items()]
        return self.op("BatchNormalization", [x, *names], y, epsilon=0.0)

    def save(self, folder, *outputs: str):
        shape = {"x": [1, CHANNELS, SIZE, SIZE]}
        return save(folder, network(self.nodes, self.constants, shape, outputs))


def per_channel(folder, seed: int = 0):
    """Dense convolution, ReLU with a step per channel, depth-wise and low-bit dense behind it."""
    net = Source(seed)
    steps = 2.0 ** -net.random.integers(3, 8, (1, CHANNELS, 1, 1))
    net.quant("x", "q0", 2.0**-5)
    net.conv("q0", "c1", net.weights("w1", 2.0**-6, 8))
    net.quant(net.op("Relu", ["c1"], "r1"), "q1", steps)
    net.op("MaxPool", ["q1"], "p1", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("p1", "c2", net.weights("w2", 2.0**-6, 8, 1), group=CHANNELS)
    steps = 2.0 ** -net.random.integers(3, 5, (1, CHANNELS, 1, 1))
    net.quant("c2", "q2", steps)
    net.conv("q2", "c3", net.weights("w3", 2.0**-3, 4))
    net.quant("c3", "y", 2.0**-2)
    return net.save(folder, "y")


def binary(folder, seed: int = 0, first_bits: int = 8):
    """8-bit input and weights, then layers of signs with batch norms between."""
    net = Source(seed)
    net.quant("x", "q0", 2.0**-5)
    net.batch_norm(net.conv("q0", "c1", net.weights("w1", 2.0**-6, first_bits)), "n1")
    net.sign("n1", "s1")
    net.op("MaxPool", ["s1"], "p1", kernel_shape=[2, 2], strides=[2, 2])
    net.batch_norm(net.conv("p1", "c2", net.binary("w2", 0.125)), "n2")
    net.sign("n2", "s2", 0.5)
    net.conv("s2", "c3", net.binary("w3", 0.25), unit=0.125)
    net.quant("c3", "y", 2.0**-2)
    return net.save(folder, "y")


def rows(report: dict) -> dict[str, dict]:
    return {row["name"]: row for row in report["verification"]["maps"]}


def assert_all_equal(report: dict, *names: str) -> None:
    found = rows(report)
    assert set(names) <= found.keys()
    for name, row in found.items():
        assert row["accumulated"]["differing"] == 0, name
        assert row["local"]["differing"] == 0, name
    assert {found[name]["class"] for name in names} == {"exact"}
    assert report["verification"]["passed"]


@pytest.mark.parametrize("seed", range(3))
def test_maps_with_a_step_per_channel_keep_every_integer(seed, tmp_path):
    source, target = per_channel(tmp_path, seed), tmp_path / "net.dla.onnx"
    conversion = dlaconv.convert(source, target, options=Options(samples=16))
    assert_all_equal(conversion.report, "x", "q1", "p1", "q2", "y")
    assert not dlaconv.check(target).diagnostics.errors
    verified = dlaconv.verify(source, target, samples=4)
    assert verified.passed
    assert {row.accumulated.differing for row in verified.rows} == {0}


def test_real_values_of_such_maps_are_the_source_s(tmp_path):
    source, target = per_channel(tmp_path), tmp_path / "net.dla.onnx"
    dlaconv.convert(source, target, options=Options(verify=False))
    x = np.random.default_rng(1).normal(size=(1, CHANNELS, SIZE, SIZE)).astype(np.float32)
    got = dlaconv.run(target, {"x": x}, fetch_all=True, as_float=True)
    from dlaconv.frontends.qonnx import load_qonnx
    from dlaconv.ir.execution import run

    wanted = run(load_qonnx(source).model, {"x": x}, ["q1", "p1", "q2", "y"])
    for name, values in wanted.items():
        assert np.array_equal(values, got[name]), name


def test_damaged_ratios_in_a_file_are_ignored(tmp_path):
    source, target = per_channel(tmp_path), tmp_path / "net.dla.onnx"
    dlaconv.convert(source, target, options=Options(verify=False))
    for wrong in (3, [1], {"axis": 1}, {"axis": 7, "ratios": [1.0]}, {"axis": [], "ratios": [-1]},
                  {"axis": None, "ratios": []}, {"axis": 1, "ratios": [2.0]}):  # fmt: skip
        model = onnx.load(target)
        for item in model.metadata_props:
            if item.key == "dlaconv.maps":
                table = json.loads(item.value)
                table["q1"]["channel_ratios"] = wrong
                item.value = json.dumps(table)
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(model.SerializeToString())
        dlaconv.verify(source, damaged, samples=1)
        x = np.zeros((1, CHANNELS, SIZE, SIZE), np.float32)
        assert dlaconv.run(damaged, {"x": x}, fetch_all=True, as_float=True)


@pytest.mark.parametrize("rounding", ["half-even", "half-away", "floor", "ceil", "up", "down"])
@pytest.mark.parametrize("first_bits", [4, 8])
def test_networks_of_signs_keep_every_sign(rounding, first_bits, tmp_path):
    source, target = binary(tmp_path, 1, first_bits), tmp_path / "net.dla.onnx"
    options = Options(samples=16, rounding=rounding)
    conversion = dlaconv.convert(source, target, options=options)
    found = rows(conversion.report)
    for name in ("s1", "p1", "s2"):
        assert found[name]["class"] == "exact"
        assert found[name]["local"]["differing"] == 0  # directed roundings move the input
        assert found[name]["real_step"] == (0.5 if name == "s2" else 1.0)
    assert conversion.report["verification"]["passed"]
    signs = [row for row in conversion.report["rewrites"] if row["name"] == "sign_activations"]
    assert [row["exact"] for row in signs] == [True, True]
    stored = dlaconv.run(target, {"x": np.ones((1, 16, SIZE, SIZE), np.float32)}, fetch_all=True,
                         hardware=options.hardware)  # fmt: skip
    assert set(np.unique(stored["s1"])) <= {-1, 1}


@pytest.mark.parametrize("policy", ["nearest", "ceil", "mse"])
def test_every_policy_keeps_signs_of_power_of_two_networks(policy, tmp_path):
    source = binary(tmp_path, 2)
    report = dlaconv.convert(source, None, options=Options(samples=16, policy=policy)).report
    assert_all_equal(report, "s1", "s2")


def test_host_is_told_to_take_the_sign(tmp_path):
    net = Source(3)
    net.sign("x", "s0", 0.3)
    net.conv("s0", "c1", net.binary("w1", 0.125))
    net.sign("c1", "y", 0.25)
    source, target = net.save(tmp_path, "y"), tmp_path / "net.dla.onnx"
    report = dlaconv.convert(source, target, options=Options(samples=16)).report
    (port,) = report["io"]["inputs"]
    assert port["feed"] == "int8 = 1 if x >= 0 else -1"
    assert rows(report)["y"]["accumulated"]["differing"] == 0
    x = np.random.default_rng(0).normal(size=(1, CHANNELS, SIZE, SIZE)).astype(np.float32)
    as_reals = dlaconv.run(target, {"x": x})["y"]
    as_integers = dlaconv.run(target, {"x": np.where(x >= 0, 1, -1).astype(np.int8)})["y"]
    assert np.array_equal(as_reals, as_integers)


def test_signs_fed_by_the_host_may_have_a_scale_per_channel(tmp_path):
    net = Source(5)
    net.sign("x", "s0", 2.0 ** -net.random.integers(0, 4, (1, CHANNELS, 1, 1)))
    net.quant(net.conv("s0", "c1", net.binary("w1", 0.125)), "y", 0.125)
    report = dlaconv.convert(net.save(tmp_path, "y"), None, options=Options(samples=8)).report
    assert_all_equal(report, "x", "y")


def test_sign_that_may_differ_is_not_counted_as_a_fault(tmp_path):
    net = Source(4)
    net.quant("x", "q0", 0.0231)  # the host feeds powers of two
    net.sign(net.conv("q0", "c1", net.weights("w1", 0.017, 4)), "s1", 0.3)
    net.quant(net.conv("s1", "c2", net.binary("w2", 0.1)), "y", 0.11)
    report = dlaconv.convert(net.save(tmp_path, "y"), None, options=Options(samples=16)).report
    row = rows(report)["s1"]
    assert row["accumulated"]["differing"] < row["accumulated"]["count"] / 20
    assert "DLA901" not in {item["rule"] for item in report["diagnostics"]}
