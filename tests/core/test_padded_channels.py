"""Networks of few channels, from a QONNX file to the hardware's integers and back."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.driver.map_sources import channel_layout
from dlaconv.options import Options
from tests.frontends.builders import QONNX, network, quant, save

SIZE = 6


def sign(x, y, step):
    return helper.make_node("BipolarQuant", [x, step], [y], name=f"sign_{y}", domain=QONNX)


class Source:
    """A QONNX file in the making; steps are powers of two unless told otherwise."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], {"z": np.zeros((), np.float32)}

    def constant(self, name, array):
        self.constants[name] = np.asarray(array, np.float32)
        return name

    def quant(self, x, y, step, bits=8, **attributes):
        scale, width = self.constant(f"{y}_s", step), self.constant(f"{y}_b", bits)
        self.nodes.append(quant(x, y, scale, "z", width, **attributes))
        return y

    def op(self, op, inputs, y, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [y], name=f"{op.lower()}_{y}", **attributes))
        return y

    def weights(self, y, shape, step=2.0**-5, bits=5):
        self.constant(f"{y}_w", self.random.normal(size=shape) * step * (1 << (bits - 2)))
        return self.quant(f"{y}_w", f"{y}_wq", step, bits, narrow=1)

    def conv(self, x, y, shape, step=2.0**-4, act=None, **more):
        weight = self.weights(y, shape, **more)
        bias = self.constant(f"{y}_c", np.rint(self.random.normal(size=shape[0]) * 4) * 2.0**-6)
        kernel = list(shape[2:])
        pads = [kernel[0] // 2] * 4
        raw = self.op("Conv", [x, weight, bias], f"{y}_raw", kernel_shape=kernel, pads=pads)
        if act:
            raw = self.op(act, [raw], f"{y}_act")
        return self.quant(raw, y, step)

    def save(self, folder, *outputs):
        return save(folder, network(self.nodes, self.constants, {"x": [1, 3, SIZE, SIZE]}, outputs))


def small(folder, step=2.0**-4):
    """3 -> 5 -> 7 channels with a sum, a concatenation, a pool and a fully connected layer."""
    net = Source()
    net.quant("x", "q", 2.0**-5)
    net.conv("q", "a", (5, 3, 3, 3), step, "Relu")
    net.conv("a", "b", (5, 5, 3, 3), step)
    net.quant(net.op("Add", ["a", "b"], "s_raw"), "s", step)
    net.op("Concat", ["s", "a"], "j", axis=1)
    net.op("MaxPool", ["j"], "p", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("p", "d", (7, 10, 1, 1), step, "Relu")
    net.op("Flatten", ["d"], "f")
    weight = net.weights("g", (63, 4))
    net.quant(net.op("MatMul", ["f", weight], "y_raw"), "y", 2.0**-3)
    return net.save(folder, "y", "d")


@pytest.mark.parametrize("step", [2.0**-4, 0.05])
def test_a_small_network_fits_and_keeps_its_integers(tmp_path, step):
    target = tmp_path / "net.dla.onnx"
    conversion = dlaconv.convert(small(tmp_path, step), target, options=Options(samples=3))
    report = conversion.report
    assert report["verification"]["passed"]
    assert set(report["rules"]["violated"]) <= {"IO-3"}  # a warning: the output has 7 channels
    assert [item["severity"] for item in report["diagnostics"] if item["rule"] == "IO-3"] == [
        "warning"
    ]
    rows = {row["name"]: row for row in report["verification"]["maps"]}
    assert {"a", "b", "s", "j", "p", "d", "f", "y"} <= rows.keys()
    assert rows["a"]["local"]["count"] == 3 * 5 * SIZE * SIZE
    assert rows["j"]["local"]["count"] == 3 * 10 * SIZE * SIZE
    if step == 2.0**-4:
        assert all(row["accumulated"]["differing"] == 0 for row in rows.values())
    padded = [row for row in report["rewrites"] if row["name"] == "channel_padding"]
    assert padded
    assert all(row["exact"] for row in padded)
    ports = {port["name"]: port for port in report["io"]["outputs"]}
    assert ports["d"]["shape"] == [1, 7, SIZE // 2, SIZE // 2]
    assert "channels" not in ports["d"]


def test_the_file_remembers_where_the_channels_are(tmp_path):
    source, target = small(tmp_path), tmp_path / "net.dla.onnx"
    dlaconv.convert(source, target, options=Options(verify=False))
    found = dlaconv.verify(source, target, samples=2)
    assert found.passed
    assert {row.about.name for row in found.rows} >= {"a", "b", "s", "j", "p", "d", "y"}
    assert sum(row.accumulated.differing for row in found.rows) == 0
    written = {value.name: value for value in onnx.load(target).graph.output}
    assert [d.dim_value for d in written["d"].type.tensor_type.shape.dim][1] == 7


def test_padded_outputs_are_told_and_compared_without_the_padding(tmp_path):
    source, target = small(tmp_path), tmp_path / "net.dla.onnx"
    conversion = dlaconv.convert(source, target, options=Options(pad_outputs=True))
    assert conversion.report["verification"]["passed"]
    assert conversion.report["rules"]["violated"] == {}
    ports = {port["name"]: port for port in conversion.report["io"]["outputs"]}
    assert ports["d"]["shape"][1] == 16
    assert ports["d"]["channels"] == [[0, 7]]
    assert "channels" not in ports["y"]
    x = {"x": np.random.default_rng(1).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)}
    integers = dlaconv.run(target, x)["d"]
    reals = dlaconv.run(target, x, as_float=True)["d"]
    assert integers.shape[1] == 16
    assert np.array_equal(reals, integers[:, :7] * np.float32(ports["d"]["real_step"]))


def test_signs_that_are_an_output_keep_every_sign(tmp_path):
    net = Source()
    net.quant("x", "q", 2.0**-5)
    net.nodes.append(sign(net.conv("q", "a", (5, 3, 3, 3)), "s", net.constant("s_s", 0.25)))
    net.conv("s", "b", (4, 5, 1, 1))
    conversion = dlaconv.convert(
        net.save(tmp_path, "s", "b"), tmp_path / "net.dla.onnx", options=Options(samples=8)
    )
    rows = {row["name"]: row for row in conversion.report["verification"]["maps"]}
    assert [rows[name]["accumulated"]["differing"] for name in ("s", "s/padded", "b")] == [0] * 3


@pytest.mark.parametrize(
    "wrong", [[[0, 17]], [[3, 2], [0, 3]], [[0, 0]], [[2, 5], [4, 2]], []], ids=str
)
def test_runs_that_do_not_fit_a_map_are_ignored(wrong):
    assert channel_layout({"channels": wrong}, (1, 16, 4, 4)).is_dense


@pytest.mark.parametrize("wrong", [7, [[0]], [[-1, 3]], [[0, 1.5]], [[True, 1]], "runs"], ids=str)
def test_a_damaged_table_of_channels_is_no_table(tmp_path, wrong):
    source, target = small(tmp_path), tmp_path / "net.dla.onnx"
    dlaconv.convert(source, target, options=Options(verify=False))
    model = onnx.load(target)
    [entry] = [item for item in model.metadata_props if item.key == "dlaconv.maps"]
    table = json.loads(entry.value)
    table["a"]["channels"] = wrong
    entry.value = json.dumps(table)
    onnx.save(model, target)
    found = dlaconv.verify(source, target, samples=1)
    assert "a" not in {row.about.name for row in found.rows}


def ending(*nodes, width=16, weights=()):
    """A float network of nodes from ``x`` to ``y``, 16 channels of 8 x 8."""
    constants = [numpy_helper.from_array(np.ones(s, np.float32) / 8, n) for n, s in weights]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", 1, [1, width, 8, 8])],
        [helper.make_tensor_value_info("y", 1, None)],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


ENDINGS = {
    "convolution": ending(
        helper.make_node("Conv", ["x", "w"], ["y"]), weights=[("w", (5, 16, 1, 1))]
    ),
    "concatenation": ending(
        helper.make_node("Conv", ["x", "w"], ["v"]),
        helper.make_node("Concat", ["v", "x"], ["y"], axis=1),
        weights=[("w", (5, 16, 1, 1))],
    ),
    "pool": ending(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]), width=3),
    "transpose": ending(
        helper.make_node("Conv", ["x", "w"], ["v"]),
        helper.make_node("Transpose", ["v"], ["y"], perm=[0, 2, 3, 1]),
        weights=[("w", (16, 16, 1, 1))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENDINGS)
def test_padding_of_outputs_is_named_where_it_helps_alone(kind, tmp_path):
    source = tmp_path / "net.onnx"
    onnx.save(ENDINGS[kind], source)

    def remedies(**options):
        chosen = Options(calibrate="random", verify=False, **options)
        found = dlaconv.convert(source, frontend="onnx", options=chosen).diagnostics
        return [item.help for item in found if item.rule == "IO-3"]

    [remedy] = remedies()
    helps = not remedies(pad_outputs=True)
    assert helps == (kind != "transpose")
    assert ("--pad-outputs" in remedy) == helps
    assert ("let the host do it" in remedy) != helps


def test_padding_of_outputs_is_not_named_where_a_transpose_ends_the_network(tmp_path):
    model = ending(
        helper.make_node("Conv", ["x", "w"], ["v"]),
        helper.make_node("Transpose", ["v"], ["y"], perm=[0, 2, 3, 1]),
        weights=[("w", (3, 16, 1, 1))],
    )
    onnx.save(model, tmp_path / "net.onnx")
    for pad in (False, True):
        options = Options(calibrate="random", verify=False, pad_outputs=pad)
        found = dlaconv.convert(tmp_path / "net.onnx", frontend="onnx", options=options).diagnostics
        remedies = [item.help for item in found if item.rule == "IO-3"]
        assert len(remedies) == 2
        assert not any("--pad-outputs" in remedy for remedy in remedies)
