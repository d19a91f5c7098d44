"""The whole list of passes on random small networks."""

import numpy as np
from harness import Net, context, ops, run_pass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.stages import Stage


class Random:
    """Draws a network whose float arithmetic is exact, so that every pass must be.

    Steps, weights and factors are powers of two or small integers: sums stay below 2^24 units.
    """

    def __init__(self, data):
        self.data = data
        self.net = Net(x=[1, 4, 6, 6])
        self.count = 0

    def draw(self, strategy):
        return self.data.draw(strategy)

    def array(self, *shape, low=-3, high=3):
        self.count += 1
        rng = np.random.default_rng(self.count)
        return rng.integers(low, high + 1, size=shape).astype(np.float32)

    def quantise(self, x):
        step = 2.0 ** self.draw(st.integers(-2, 4))
        rounding = self.draw(st.sampled_from(list(Rounding)))
        signed = self.draw(st.booleans())
        return self.net.quantize(
            x, step, self.draw(st.sampled_from([4, 8])), signed=signed, rounding=rounding
        )

    def weights(self, *shape):
        array = self.array(*shape)
        kind = self.draw(st.sampled_from(["float", "quantised", "per channel", "bipolar"]))
        if kind == "float":
            return array
        value = self.net.const(array)
        if kind == "bipolar":
            return self.net.bipolar(value, 0.5)
        if kind == "quantised":
            return self.net.quantize(value, 1.0, 3)
        steps = 2.0 ** -np.arange(shape[0]).reshape(-1, *(1 for _ in shape[1:]))
        return self.net.quantize(value, steps, 4)

    def convolution(self, x):
        net = self.net
        kernel, window = self.draw(st.sampled_from([1, 3])), {"auto_pad": "SAME_UPPER"}
        if kernel == 3 and self.draw(st.booleans()):
            x, window = net.op("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1])), {}
        bias = [net.quantize(net.const(self.array(4)), 1.0, 16)] if self.draw(st.booleans()) else []
        value = net.op("Conv", x, self.weights(4, 4, kernel, kernel), *bias, **window)
        for kind in self.draw(st.lists(st.sampled_from(["Add", "Mul", "BN", "Sub"]), max_size=3)):
            shape = self.draw(st.sampled_from([(), (4, 1, 1), (1, 4, 1, 1)]))
            if kind == "BN":
                gamma = np.array([1, -2, 0, 0.5])
                value = net.op(
                    "BatchNormalization",
                    value,
                    gamma,
                    self.array(4),
                    self.array(4),
                    np.ones(4),
                    epsilon=0.0,
                )
            elif kind == "Mul":
                value = net.op("Mul", np.resize([1.0, -1.0, 2.0, 0.5], shape), value)
            else:
                value = net.op(kind, value, self.array(*shape))
        return net.op(self.draw(st.sampled_from(["Relu", "Identity"])), value)

    def channels_last(self, x):
        net = self.net
        x = net.op("Transpose", x, perm=[0, 2, 3, 1])
        for kind in self.draw(
            st.lists(st.sampled_from(["Relu", "Add", "Q", "Concat"]), max_size=3)
        ):
            if kind == "Q":
                x = self.quantise(x)
            elif kind == "Add":
                x = net.op("Add", x, self.array(4))
            elif kind == "Concat":
                both = net.op("Concat", x, x, axis=3)
                x = net.op(
                    "MaxPool", net.op("Transpose", both, perm=[0, 3, 1, 2]), kernel_shape=[1, 1]
                )
                return net.op("Slice", x, [0], [4], [1])
            else:
                x = net.op("Relu", x)
        return net.op("Transpose", x, perm=[0, 3, 1, 2])

    def head(self, x):
        net = self.net
        kind = self.draw(st.sampled_from(["gemm", "matmul", "pool", "none"]))
        if kind == "none":
            return x
        if kind == "pool":  # a mean over 36 values is not exact
            return net.op("ReduceMean", x, [2, 3], keepdims=0, out="mean")
        if kind == "gemm":
            x = net.op("Flatten", x)
            return net.op("Gemm", x, self.weights(4, 144), self.array(4), transB=1, alpha=2.0)
        x = net.op("Reshape", x, np.array([0, -1]))
        weights = net.op("Transpose", self.weights(3, 144), perm=[1, 0])
        return net.op("Add", self.array(3), net.op("MatMul", x, weights))

    def build(self):
        value, earlier = self.quantise("x"), None
        for _ in range(self.draw(st.integers(1, 4))):
            block = self.draw(
                st.sampled_from(["conv", "conv", "last", "pool", "residual", "requant"])
            )
            before = value
            if block == "conv":
                value = self.quantise(self.convolution(value))
            elif block == "last":
                value = self.channels_last(value)
            elif block == "pool":
                value = self.quantise(
                    self.net.op("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
                )
            elif block == "requant":
                value = self.quantise(self.quantise(value))
            elif earlier is not None:
                value = self.quantise(self.net.op("Add", value, earlier))
            earlier = before
        result = self.head(value)
        return self.net.model(
            result, *([value] if result != value and self.draw(st.booleans()) else [])
        )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_networks_become_canonical_and_compute_the_same(data):
    model = Random(data).build()
    rng = np.random.default_rng(0)
    feeds = {"x": rng.integers(-40, 40, size=(1, 4, 6, 6)).astype(np.float32) / 4}
    exact = "mean" not in {value.name for node in model.graph for value in node.outputs}
    run_pass(CANONICAL, model, feeds=feeds, stage=Stage.CANONICAL, tolerance=0 if exact else 1e-6)


def test_a_brevitas_style_block_becomes_integers_and_one_quantiser_per_map():
    rng = np.random.default_rng(0)
    net = Net(x=[1, 3, 8, 8])
    value = net.quantize("x", 0.05)
    weights = net.quantize(net.const(rng.normal(size=(4, 3, 3, 3))), 0.02)
    value = net.op("Conv", net.op("Pad", value, np.array([0, 0, 1, 1, 0, 0, 1, 1])), weights)
    parameters = [rng.uniform(0.5, 1.5, size=4) for _ in range(4)]
    value = net.op("Relu", net.op("BatchNormalization", value, *parameters))
    value = net.quantize(
        net.op("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2]), 0.1, out="q"
    )
    matrix = net.op(
        "Transpose", net.quantize(net.const(rng.normal(size=(5, 64))), 0.02), perm=[1, 0]
    )
    value = net.op("MatMul", net.op("Flatten", value), matrix)
    net.op("Add", net.quantize(net.const(rng.normal(size=5)), 1e-4, 16), value, out="y")
    model = run_pass(CANONICAL, net.model("y"), stage=Stage.CANONICAL, tolerance=1e-5)
    found = [op.removesuffix("HalfEven") for op in ops(model) if op != "Dequantize"]
    assert found == ["Quantize", "Conv", "Relu", "Quantize", "MaxPool", "Reshape", "Gemm"]
    assert all(
        dialect.array_of(n.inputs[0]).dtype == np.int8
        for n in model.graph
        if n.op_type == "Dequantize"
    )


def test_thousands_of_nodes_with_shared_constants_become_canonical():
    net = Net(x=[1, 2, 3, 3])
    weights, bias = net.const(np.ones((2, 2, 1, 1))), net.const(np.ones((1, 2, 1, 1)))
    value = net.quantize("x", 0.25)
    for _ in range(400):
        quantised = net.quantize(weights, 0.5)
        value = net.op("Add", net.op("Conv", net.op("Identity", value), quantised), bias)
        value = net.quantize(net.op("Relu", value), 0.25)
    model = net.model(value)
    for step in CANONICAL:
        step(model, context())
    assert len(list(model.graph)) == 1 + 400 * 4
