"""Small CANONICAL networks, built node by node with steps taken from data."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, graph
from dlaconv.ir.execution import Executor
from dlaconv.ir.passes.maps import MAPS
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.scales import SCALED
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target


class Net:
    """A graph in the making; `data` are the inputs that its steps come from."""

    def __init__(self, seed: int = 0, channels: int = 16, size: int = 8) -> None:
        self.random = np.random.default_rng(seed)
        self.channels, self.size = channels, size
        self.x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, channels, size, size])
        self.graph = ir.Graph([self.x], [], nodes=[], opset_imports={"": 18}, name="net")
        self.model = ir.Model(self.graph, ir_version=10)
        self.data = self.random.normal(size=(8, channels, size, size)).astype(np.float32)
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def add(self, node: ir.Node) -> ir.Value:
        self.graph.append(node)
        graph.register_constants(self.graph, [node])
        return node.outputs[0]

    def op(self, op_type: str, *inputs: ir.Value, shape=None, **attributes) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes, name=self.name(op_type.lower()))
        result = node.outputs[0]
        result.name, result.dtype = f"{node.name}_out", ir.DataType.FLOAT
        result.shape = ir.Shape(shape or (1, self.channels, self.size, self.size))
        return self.add(node)

    def magnitude(self, value: ir.Value) -> float:
        if value is self.x:
            return float(np.abs(self.data).max())
        self.output(value)
        executor = Executor(self.model)
        return max(
            float(np.abs(executor.run({"x": sample[None]})[value.name]).max())
            for sample in self.data
        )

    def quantise(self, value: ir.Value, step: float | None = None, bits: int = 8, **how):
        how.setdefault("signed", True)
        largest = (1 << (bits - how["signed"])) - 1
        step = self.magnitude(value) / largest if step is None else step
        name = self.name("quant")
        quantisation = Quantisation.of(np.float32(step), bits, **how)
        return self.add(dialect.quantize(value, quantisation, name=name, output=f"{name}_out"))

    def conv(self, x: ir.Value, *, bias=None, steps=None, integers=None) -> ir.Value:
        channels = self.channels
        weights = self.random.normal(size=(channels, channels, 3, 3)) * np.sqrt(2 / 9 / channels)
        if steps is None:
            steps = np.abs(weights).reshape(channels, -1).max(1) / 127
        steps = np.broadcast_to(np.asarray(steps, np.float64), (channels,)).reshape(-1, 1, 1, 1)
        if integers is None:
            integers = np.clip(np.rint(weights / steps), -128, 127).astype(np.int8)
        if bias is None:
            bias = self.random.normal(size=channels) * 0.1
        name = self.name("conv")
        holder = dialect.dequantize(
            dialect.constant(f"{name}/W_int", integers), steps, name=f"{name}/W", output=f"{name}/w"
        )
        self.add(holder)
        return self.op(
            "Conv", x, holder.outputs[0],
            dialect.constant(f"{name}/b", np.asarray(bias, np.float32)),
            kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1], group=1,
        )  # fmt: skip

    def float_conv(self, x: ir.Value, rows=1.0, columns=1.0, group: int = 1) -> ir.Value:
        """A convolution with real weights, multiplied per output and per input channel."""
        channels, name = self.channels, self.name("weights")
        weights = self.random.normal(size=(channels, channels // group, 3, 3))
        weights *= np.sqrt(2 * group / 9 / channels) * np.reshape(rows, (-1, 1, 1, 1))
        weights *= np.reshape(columns, (1, -1, 1, 1))
        bias = self.random.normal(size=channels) * 0.1
        constants = [
            dialect.constant(name, weights.astype(np.float32)),
            dialect.constant(f"{name}/bias", bias.astype(np.float32)),
        ]
        shape = tuple(x.shape)
        window = {"pads": [1] * 4, "kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1]}
        return self.op("Conv", x, *constants, shape=shape, group=group, **window)

    def relu(self, x: ir.Value) -> ir.Value:
        return self.op("Relu", x)

    def output(self, *values: ir.Value) -> Net:
        self.graph.outputs.clear()
        self.graph.outputs.extend(values)
        dialect.install(self.model)
        return self


def chain(convolutions: int, seed: int, **how) -> Net:
    """Quantised input, then convolutions with ReLU and a quantiser behind each."""
    net = Net(seed)
    value = net.quantise(net.x)
    for index in range(convolutions):
        value = net.conv(value)
        if index < convolutions - 1:
            value = net.relu(value)
        value = net.quantise(value, **how)
    return net.output(value)


def residual(blocks: int, seed: int) -> Net:
    """Blocks of two convolutions around which the input is added, all with steps of their own."""
    net = Net(seed)
    value = net.quantise(net.x)
    for _ in range(blocks):
        branch = net.quantise(net.relu(net.conv(value)))
        branch = net.quantise(net.conv(branch))
        value = net.quantise(net.relu(net.op("Add", branch, value)))
    return net.output(net.quantise(net.conv(value)))


def scaled(net: Net, **settings) -> tuple[ir.Model, Context]:
    """The SCALED copy of a network, and the context with its records."""
    model = net.model.clone()
    settings.setdefault("target", Target.load())
    context = Context(**settings)
    Pipeline([(Stage.MAPPED, MAPS), (Stage.SCALED, SCALED)]).run(model, context)
    return model, context


def outputs(model: ir.Model, inputs: np.ndarray) -> np.ndarray:
    """The first output on stacked inputs."""
    executor = Executor(model)
    return np.concatenate([executor.run({"x": x[None]})[executor.outputs[0]] for x in inputs])


def real_outputs(model: ir.Model, context: Context, inputs: np.ndarray) -> np.ndarray:
    """The first output of a SCALED model in the source's real terms."""
    quantiser = next(node for node in model.graph if dialect.is_quantize(node))
    gain = np.float32(context.gammas[quantiser.outputs[0].name])
    return outputs(model, inputs * gain) / context.gammas[model.graph.outputs[0].name]


def qsnr(wanted: np.ndarray, got: np.ndarray) -> float:
    """Signal over noise in dB."""
    noise = np.square(wanted.astype(np.float64) - got).sum()
    return float(10 * np.log10(np.square(wanted, dtype=np.float64).sum() / max(noise, 1e-30)))


def records(context: Context, kind: str) -> dict[str, object]:
    return {record.name: record for record in context.records if record.kind == kind}
