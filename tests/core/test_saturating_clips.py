"""Networks with ReLU6 and other clips: the hardware saturates where the source clips."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dlaconv
from dlaconv.options import Options

C, SIZE = 16, 8


class Source:
    """A float network in the making."""

    def __init__(self, folder, seed=0):
        self.folder, self.random = folder, np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def op(self, op, *inputs, out=None, **attributes):
        result = out or f"v{len(self.nodes)}"
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        self.nodes.append(helper.make_node(op, names, [result], name=f"n{len(self.nodes)}",
                                           **attributes))  # fmt: skip
        return result

    def conv(self, x, channels=C, kernel=3, gain=2.0):
        weights = self.random.normal(size=(C, channels, kernel, kernel))
        weights *= gain / np.sqrt(channels * kernel**2)
        return self.op("Conv", x, weights, self.random.normal(size=C), pads=[kernel // 2] * 4)

    def clip(self, x, low=0.0, high=6.0, **more):
        return self.op("Clip", x, np.float32(low), np.float32(high), **more)

    def convert(self, *outputs, spread=3.0, **options):
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", 1, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(name, 1, None) for name in outputs],
            self.constants,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 18)]
        self.model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.save(self.model, self.folder / "net.onnx")
        self.data = self.random.normal(size=(8, 3, SIZE, SIZE)).astype(np.float32) * spread
        np.savez(self.folder / "data.npz", x=self.data)
        options = Options(calibrate=self.folder / "data.npz", **options)
        self.target = self.folder / "net.dla.onnx"
        return dlaconv.convert(self.folder / "net.onnx", self.target, options=options)

    def wanted(self):
        evaluator = ReferenceEvaluator(self.model)
        rows = [evaluator.run(None, {"x": row[None]}) for row in self.data]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def got(self):
        found = dlaconv.run(self.target, {"x": self.data}, as_float=True)
        return [found[value.name] for value in self.model.graph.output]

    def written(self):
        return [node.op_type for node in onnx.load(self.target).graph.node]


def decibels(wanted, got):
    return 10 * np.log10(np.square(wanted).sum() / np.square(wanted - got).sum())


def real_step(conversion, name):
    rows = conversion.report["tensors"]
    return next(row["target"]["real_step"] for row in rows if row["name"] == name)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (0.0, 1.0), (-1.0, 1.0)])
def test_a_chain_of_clips_saturates_where_the_source_clips(tmp_path, low, high):
    net = Source(tmp_path)
    first = net.clip(net.conv("x", 3, gain=high / 3), low, high)
    second = net.clip(net.conv(first, gain=2.0), low, high)
    net.conv(second, gain=1.0)
    conversion = net.convert(net.nodes[-1].output[0])
    assert "Clip" not in net.written()
    for name in (first, second):
        units = 127 if low == 0 else 127.5
        assert real_step(conversion, name) == pytest.approx(high / units, rel=1e-3)
    [wanted], [got] = net.wanted(), net.got()
    assert decibels(wanted, got) > 25
    rows = {row["name"]: row for row in conversion.report["verification"]["maps"]}
    assert rows[first]["local"]["clipped"] == 0
    stored = dlaconv.run(net.target, {"x": net.data}, fetch_all=True)[first]
    before = ReferenceEvaluator(net.model.graph.node[0], opsets={"": 18})
    weights = {item.name: numpy_helper.to_array(item) for item in net.constants}
    raw = before.run(None, {"x": net.data, **weights})[0]
    assert (raw > high).mean() > 0.1
    assert set(stored[raw > high * 1.3].tolist()) == {127}
    if low:
        assert set(stored[raw < low * 1.3].tolist()) == {-128}


def test_a_sum_of_clips_keeps_them(tmp_path):
    net = Source(tmp_path)
    first = net.clip(net.conv("x", 3, gain=6.0))
    second = net.clip(net.conv(first, gain=3.0))
    total = net.op("Add", first, second)
    third = net.clip(net.op("Add", total, net.conv(total)))
    net.conv(third, gain=1.0)
    conversion = net.convert(net.nodes[-1].output[0])
    rows = {row["name"]: row for row in conversion.report["tensors"]}
    for name in (first, second, third):
        assert "is the hardware's saturation" in rows[name]["note"], rows[name]
    [wanted], [got] = net.wanted(), net.got()
    assert decibels(wanted, got) > 25


def test_a_clipped_output_is_clipped(tmp_path):
    net = Source(tmp_path)
    last = net.clip(net.conv("x", 3, gain=2.0), out="y")
    net.convert(last)
    [wanted], [got] = net.wanted(), net.got()
    assert net.written() == ["Conv", "Relu", "Conv"]
    assert wanted.max() == got.max() == 6
    assert decibels(wanted, got) > 25


def test_clips_that_no_map_does_are_the_hosts(tmp_path):
    net = Source(tmp_path)
    net.conv(net.clip(net.conv("x", 3), -1.0, 6.0))
    conversion = net.convert(net.nodes[-1].output[0], partition=True)
    [host] = conversion.report["host"]
    assert host["op"] == "Clip"
    assert "alike" in host["reason"]


def test_a_clip_in_front_of_a_host_part_is_done_by_the_accelerator(tmp_path):
    net = Source(tmp_path)
    net.constants.append(numpy_helper.from_array(np.array(1, np.int64), "axis"))
    summed = net.op("CumSum", net.clip(net.conv("x", 3, gain=2.0)), "axis")
    net.conv(summed, gain=0.2)
    conversion = net.convert(net.nodes[-1].output[0], partition=True)
    assert [host["op"] for host in conversion.report["host"]] == ["CumSum"]
    assert net.written() == ["Conv", "Relu", "Conv"]
    [got] = dlaconv.run_chain(tmp_path / "net.dla.json", {"x": net.data}).values()
    [wanted] = net.wanted()
    assert decibels(wanted, got) > 25


def test_hard_swish_is_recognised_and_runs(tmp_path):
    net = Source(tmp_path)
    x = net.conv("x", 3)
    gate = net.clip(net.op("Add", x, np.float32(3)))
    net.conv(net.op("Div", net.op("Mul", x, gate), np.float32(6)), gain=1.0)
    net.convert(net.nodes[-1].output[0])
    assert net.written() == ["Conv", "HardSwish", "Conv"]
    [wanted], [got] = net.wanted(), net.got()
    assert decibels(wanted, got) > 25


def test_a_hard_sigmoid_is_a_layer_that_saturates(tmp_path):
    net = Source(tmp_path)
    gate = net.op("HardSigmoid", net.conv("x", 3, gain=4.0), alpha=1 / 6, beta=0.5)
    net.conv(gate, gain=1.0)
    conversion = net.convert(net.nodes[-1].output[0])
    assert net.written() == ["Conv", "Relu", "Conv"]
    assert real_step(conversion, gate) == pytest.approx(1 / 127, rel=1e-3)
    [wanted], [got] = net.wanted(), net.got()
    assert decibels(wanted, got) > 25
