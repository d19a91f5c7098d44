"""Maps that padding of channels is about."""

import numpy as np

from dlaconv.ir import dialect
from dlaconv.ir.graph import consumers
from dlaconv.ir.passes.legal.channel_padding import channel_padding
from tests.ir.passes.harness import Net

PASS = channel_padding.as_pass()


class Random(Net):
    """Adds random layers; integers of quantised ones are small enough for exact float32 sums."""

    def __init__(self, seed=0, quantised=False, channels=3, size=6):
        super().__init__(x=[1, channels, size, size])
        self.rng, self.quantised = np.random.default_rng(seed), quantised
        self.shapes = {}
        self.entry = self.stored("x")
        self.shapes[self.entry] = (channels, size)

    def stored(self, value):
        return self.quantize(value, 0.25) if self.quantised else value

    def weights(self, shape):
        if not self.quantised:
            return self.rng.normal(size=shape).astype(np.float32)
        steps = 2.0 ** self.rng.integers(-4, 0, (shape[0],) + (1,) * (len(shape) - 1))
        return self.dequantize(self.const(self.rng.integers(-7, 8, shape), dtype=np.int8), steps)

    def bias(self, channels):
        return (self.rng.integers(-8, 8, channels) / 8).astype(np.float32)

    def conv(self, x, channels, kernel=3, depthwise=False, act=None):
        before, size = self.shapes[x]
        group = before if depthwise else 1
        channels = before if depthwise else channels
        y = self.op(
            "Conv", x, self.weights((channels, before // group, kernel, kernel)),
            self.bias(channels), kernel_shape=[kernel] * 2, strides=[1, 1],
            pads=[kernel // 2] * 4, dilations=[1, 1], group=group,
        )  # fmt: skip
        return self.keep(self.stored(self.op(act, y) if act else y), channels, size)

    def depthwise(self, x):
        return self.conv(x, 0, depthwise=True)

    def leaky(self, x):
        channels, size = self.shapes[x]
        slopes = (self.rng.integers(0, 4, (channels, 1, 1)) / 4).astype(np.float32)
        return self.keep(self.stored(self.op("PRelu", x, slopes)), channels, size)

    def pool(self, x):
        channels, size = self.shapes[x]
        y = self.op("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
        return self.keep(y, channels, size)

    def average(self, x):
        channels, size = self.shapes[x]
        y = self.op(
            "AveragePool", x, kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0],
            count_include_pad=1,
        )  # fmt: skip
        return self.keep(self.stored(y), channels, size)

    def add(self, x, y):
        return self.keep(self.stored(self.op("Add", x, y)), *self.shapes[x])

    def concat(self, *values):
        channels = sum(self.shapes[value][0] for value in values)
        return self.keep(self.op("Concat", *values, axis=1), channels, self.shapes[values[0]][1])

    def sigmoid(self, x):
        return self.keep(self.stored(self.op("Sigmoid", x)), *self.shapes[x])

    def fully(self, x, outputs):
        channels, size = self.shapes[x]
        flat = self.op("Reshape", x, self.ints([1, channels * size * size]))
        weights = self.weights((outputs, channels * size * size))
        return self.stored(self.op("Gemm", flat, weights, self.bias(outputs), transB=1))

    def ints(self, values):
        return self.const(np.array(values), dtype=np.int64)

    def keep(self, value, channels, size):
        self.shapes[value] = (channels, size)
        return value


def is_final(value):
    """True for maps that only become graph outputs."""
    readers = consumers(value)
    passing = all(
        (dialect.is_quantize(node) or node.op_type in {"Relu", "PRelu"})
        and is_final(node.outputs[0])
        for node in readers
    )
    return passing and (bool(readers) or value.is_graph_output())


def unaligned(model):
    """Names of maps with a number of channels that the hardware cannot store."""
    fed = set(model.graph.inputs)
    fed |= {n.outputs[0] for n in model.graph if n.inputs[0] in fed and dialect.is_quantize(n)}
    return [
        value.name
        for node in model.graph
        if not dialect.is_dequantize(node)
        for value in node.outputs
        if len(value.shape) == 4 and value.shape[1] % 16 and value not in fed
        and not is_final(value)
    ]  # fmt: skip
