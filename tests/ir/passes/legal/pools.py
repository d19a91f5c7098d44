"""Pools to legalise, and what the rules of the hardware say about them."""

from __future__ import annotations

import numpy as np

from dlaconv.ir import dialect
from dlaconv.ir.execution import run
from dlaconv.ir.graph import attribute, ints_attribute, shape_of
from dlaconv.ir.target import Target
from tests.ir.passes.harness import Net

LIMITS = Target.load()
SOURCES = ("relu", "signed", "unsigned", "float")
"""What a map is: a ReLU's result, quantised with signs or without, or nothing of that."""


def source(net, kind, x="x"):
    """A value of some kind, computed from a graph input."""
    if kind == "relu":
        return net.op("Relu", x)
    if kind == "float":
        return x
    return net.quantize(x, 0.25, signed=kind == "signed")


def pool(op_type, shape, kind="relu", *, pads=(0, 0, 0, 0), **attributes):
    """A network of one pool."""
    net = Net(x=list(shape))
    if op_type == "MaxPool":
        attributes.setdefault("dilations", [1] * (len(shape) - 2))
    y = net.op(op_type, source(net, kind), pads=list(pads), **attributes)
    return net.model(y)


def wide_feeds(model, seed=0):
    """Inputs that reach both ends of the grids, negative ones in plenty."""
    rng = np.random.default_rng(seed)
    return {
        value.name: (rng.normal(-10, 20, tuple(value.shape))).astype(np.float32)
        for value in model.graph.inputs
    }


def assert_same_outputs(before, after, feeds):
    """The graph outputs are equal, bit by bit; unrounded values between may not be."""
    names = [value.name for value in before.graph.outputs]
    expected, got = run(before, feeds, names), run(after, feeds, names)
    for name in names:
        assert np.array_equal(expected[name], got[name]), name


def broken(model):
    """What pools and convolutions of a model break, in words."""
    return [problem for node in model.graph for problem in _problems(node)]


def _problems(node):
    if node.op_type == "GlobalAveragePool":
        extents = shape_of(node.inputs[0])[2:]
        return [] if all(2 <= extent <= 7 for extent in extents) else ["global kernel"]
    if node.op_type not in {"MaxPool", "AveragePool", "Conv"}:
        return []
    kernel, strides = ints_attribute(node, "kernel_shape"), ints_attribute(node, "strides")
    pads, size = ints_attribute(node, "pads"), shape_of(node.inputs[0])[2:]
    if node.op_type == "MaxPool":
        limits = LIMITS.max_pool
        found = ["kernel"] * (len(set(kernel)) > 1 or kernel[0] not in LIMITS.max_pool_kernels)
        found += ["top or left"] * any(pads[:2])
    elif node.op_type == "AveragePool":
        limits = LIMITS.average_pool
        found = ["kernel"] * any(not 2 <= extent <= 7 for extent in kernel)
        found += ["bottom or right"] * any(pads[2:])
        found += ["divisor"] * (any(pads) and not attribute(node, "count_include_pad", 0))
    else:
        depthwise = attribute(node, "group", 1) > 1
        limits = LIMITS.depthwise if depthwise else LIMITS.conv
        found = ["kernel"] * any(not 1 <= extent <= 7 for extent in kernel)
        found += ["small"] * any(extent < limits.map_size[0] for extent in size)
        assert attribute(node, "group", 1) in {1, shape_of(node.inputs[0])[1]}
    found += ["ceil"] * bool(attribute(node, "ceil_mode", 0))
    found += ["stride"] * any(stride not in limits.strides for stride in strides)
    found += ["pads"] * any(pad > limits.padding[1] for pad in pads)
    if node.op_type != "Conv":
        rank = len(kernel)
        found += ["pad of a whole window"] * any(
            pad >= kernel[index % rank] for index, pad in enumerate(pads)
        )
    return found


def quantisers(model):
    return [node for node in model.graph if dialect.is_quantize(node)]
