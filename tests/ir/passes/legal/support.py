"""What the tests of legalisations share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlaconv.ir import dialect
from dlaconv.ir.graph import producer
from tests.ir.passes.harness import Net, context, node_of, ops


def integers_of_conv(model):
    """The integers of the only convolution's weights, and their steps."""
    holder = producer(node_of(model, "Conv").inputs[1])
    assert dialect.is_dequantize(holder)
    return dialect.array_of(holder.inputs[0]), dialect.step_of(holder)


def convs(model):
    """All convolutions of a model."""
    return [node for node in model.graph if node.op_type == "Conv"]


def narrow(most):
    """A context whose target has few channels."""
    noted = context()
    noted.target = replace(noted.target, conv=replace(noted.target.conv, channels=(1, most)))
    return noted


def operators(model):
    """The operators of a model without those that give integers of weights their steps."""
    return [op for op in ops(model) if op != "Dequantize"]


def conv_model(
    *,
    channels=3,
    outputs=4,
    size=(8, 8),
    kernel=(3, 3),
    strides=None,
    pads=None,
    dilations=None,
    group=1,
    quantised=False,
    computed=False,
    activation=None,
    seed=0,
):
    """A model of one convolution with a bias, and what may follow.

    Quantised, every sum is exact in float32: results can be compared bit by bit.

    Args:
        size: extents of the input; as many as the kernel has.
        kernel: extents of the kernel.
        quantised: quantises input, weights, bias and result, by powers of two.
        computed: takes the weights from a graph input.
        activation: ``Relu``, ``LeakyRelu`` or ``PRelu`` between convolution and quantiser.
        seed: of weights and bias.
    """
    rng = np.random.default_rng(seed)
    rank = len(kernel)
    shape = (outputs, channels // group, *kernel)
    net = Net(x=[1, channels, *size], **({"w": list(shape)} if computed else {}))
    x = net.quantize("x", out="stored") if quantised else "x"
    weights, bias = constants(net, rng, shape, outputs, quantised=quantised)
    y = net.op(
        "Conv", x, "w" if computed else weights, bias, kernel_shape=kernel,
        strides=strides or (1,) * rank, pads=pads or (0,) * (2 * rank),
        dilations=dilations or (1,) * rank, group=group,
    )  # fmt: skip
    y = activate(net, y, activation, outputs, rank, rng)
    return net.model(net.quantize(y, 0.5) if quantised else y)


def constants(net, rng, shape, outputs, *, quantised, axis=0):
    """Weights of ``shape`` with their output channels on ``axis``, and a bias."""
    if not quantised:
        weights = rng.normal(size=shape).astype(np.float32)
        return weights, rng.normal(size=outputs).astype(np.float32)
    steps = 2.0 ** rng.integers(
        -8, -4, [shape[axis] if i == axis else 1 for i in range(len(shape))]
    )
    weights = net.dequantize(net.const(rng.integers(-127, 128, shape), dtype=np.int8), steps)
    return weights, (rng.integers(-64, 64, outputs) / 64).astype(np.float32)


def activate(net, y, activation, channels, rank, rng):
    """An activation of that name on a value, or none."""
    if activation is None:
        return y
    if activation == "LeakyRelu":
        return net.op(activation, y, alpha=0.125)
    slopes = [(rng.integers(0, 8, (channels, *(1,) * rank)) / 8).astype(np.float32)]
    return net.op(activation, y, *(slopes if activation == "PRelu" else []))
