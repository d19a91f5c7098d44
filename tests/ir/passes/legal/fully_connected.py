"""Networks of one fully connected layer, and targets with small limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target
from tests.ir.passes.harness import Net
from tests.ir.passes.legal.support import constants


def small_target(inputs, **changes):
    """A context whose fully connected layers and maps have at most so many channels."""
    target = Target.load()
    conv = replace(target.conv, channels=(1, inputs))
    limits = {"fc_channels": (1, inputs), "map_channels": (16, inputs), "conv": conv} | changes
    return Context(replace(target, **limits))


def fc_model(shape, outputs, *, quantised=False, relu=False, flatten=True, bias=True, seed=0):
    """A flattened map, a fully connected layer and what may follow.

    Args:
        shape: of the graph input, ``[N, ...]``.
        outputs: of the layer.
        quantised: input, weights and result have steps that are powers of two.
        relu: an activation between layer and quantiser.
        flatten: a Reshape of the map; else the input has the layer's rank.
        bias: False leaves it out.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    net = Net(x=list(shape))
    x = net.quantize("x") if quantised else "x"
    count = int(np.prod(shape[1:]))
    if flatten:
        x = net.op("Reshape", x, np.array([shape[0], count]))
    weights, offset = constants(net, rng, (outputs, count), outputs, quantised=quantised)
    y = net.op("Gemm", x, weights, *([offset] if bias else []), transB=1)
    y = net.op("Relu", y) if relu else y
    return net.model(net.quantize(y, 0.5) if quantised else y)
