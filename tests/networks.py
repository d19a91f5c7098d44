"""Seeded QONNX networks with scales that fit their data, built with numpy and onnx.helper.

Every network is computed while it is built: each operation takes and returns calibration data,
quantisers choose their scale from it and pass the quantised data on. So maps use their range, as
in a network that somebody calibrated or trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QONNX = "qonnx.custom_op.general"
CALIBRATED = 8
"""Samples that scales are chosen on."""


@dataclass(frozen=True)
class Style:
    """How the networks are quantised.

    Attributes:
        power_of_two: scales of maps and weights rounded up to a power of two.
        per_channel: one weight scale per output channel.
        unsigned: maps behind a ReLU are unsigned.
        bits: bits of maps.
        weight_bits: bits of weights.
        bias: ``float``, ``none``, or a number of bits, then at the scale of weights times input.
        percentile: share of magnitudes that a map's range covers.
        shared: both operands of an Add have one scale.
    """

    power_of_two: bool = False
    per_channel: bool = True
    unsigned: bool = False
    bits: int = 8
    weight_bits: int = 8
    bias: str = "float"
    percentile: float = 100.0
    shared: bool = True


class Built(NamedTuple):
    """A network.

    Attributes:
        model: the QONNX file.
        maps: names of the quantised maps in execution order, the graph input's quantiser first.
        samples: stacked inputs ``[64, ...]`` by graph input, like those it was calibrated on.
    """

    model: onnx.ModelProto
    maps: list[str]
    samples: dict[str, np.ndarray]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph with its calibration data; ``step`` if it is a quantised map."""

    name: str
    data: np.ndarray
    step: np.float32 | None = None
    positive: bool = False


@dataclass
class Net:
    """Builds a network operation by operation."""

    seed: int
    style: Style = field(default_factory=Style)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.maps: list[str] = []
        self.samples: np.ndarray = np.zeros(0)

    # Graph

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def constant(self, name: str, array: np.ndarray | float) -> str:
        self.constants[name] = np.asarray(array, np.float32)
        return name

    def op(self, op_type: str, inputs: Sequence[str], **attributes: object) -> str:
        name = self.name(op_type.lower())
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name, **attributes))
        return name

    def built(self, output: Tensor) -> Built:
        self.nodes[-1].output[0] = "output"
        if self.maps and self.maps[-1] == output.name:
            self.maps[-1] = "output"
        image = [1, *self.samples.shape[1:]]
        shape = [1, *output.data.shape[1:]]
        graph = helper.make_graph(
            self.nodes,
            f"net{self.seed}",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, image)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return Built(model, self.maps, {"input": self.samples})

    # Quantisers

    def step_for(self, data: np.ndarray, bits: int, *, unsigned: bool = False) -> np.float32:
        top = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
        reach = np.percentile(np.abs(data), self.style.percentile)
        step = max(float(reach), 1e-6) / top
        return np.float32(2.0 ** np.ceil(np.log2(step)) if self.style.power_of_two else step)

    def quant(
        self,
        name: str,
        data: np.ndarray,
        step: np.ndarray | np.float32,
        bits: int,
        *,
        unsigned: bool = False,
        narrow: bool = False,
    ) -> tuple[str, np.ndarray]:
        """A Quant node on the value ``name``, and what it makes of the value."""
        here = self.name("quant")
        inputs = [
            name,
            self.constant(f"{here}_scale", step),
            self.constant("zero_point", 0.0),
            self.constant(f"bits{bits}", bits),
        ]
        flags = {"signed": int(not unsigned), "narrow": int(narrow), "rounding_mode": "ROUND"}
        output = self.op("Quant", inputs, domain=QONNX, **flags)
        low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return output, np.clip(np.rint(data / step), low + narrow, high - narrow * unsigned) * step

    def quantised(self, x: Tensor, step: np.float32 | None = None) -> Tensor:
        """The map quantised as the style says, with its own scale unless one is given."""
        unsigned = self.style.unsigned and x.positive
        step = self.step_for(x.data, self.style.bits, unsigned=unsigned) if step is None else step
        name, data = self.quant(x.name, x.data, step, self.style.bits, unsigned=unsigned)
        self.maps.append(name)
        return Tensor(name, data, step, x.positive)

    def operands(self, trunk: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
        """Both operands of an Add, quantised; ``branch`` is not quantised before.

        A shared scale is the trunk's. Behind unsigned maps a signed quantiser takes both, as
        Brevitas has it: the trunk is quantised once more.
        """
        if not self.style.shared:
            return trunk, self.quantised(branch)
        if not (self.style.unsigned and trunk.positive):
            return trunk, self.quantised(branch, trunk.step)
        step = self.step_for(np.concatenate([trunk.data, branch.data]), self.style.bits)
        signed = Tensor(trunk.name, trunk.data)
        return self.quantised(signed, step), self.quantised(branch, step)

    # Operators

    def input(self, channels: int, height: int, width: int | None = None) -> Tensor:
        """The quantised graph input: half of the samples normal, half uniform, in [-1, 1]."""
        shape = (64, channels, height, width or height)
        normal, uniform = self.rng.normal(size=shape) / 3, self.rng.uniform(-1, 1, shape)
        even = (np.arange(64) % 2 == 0)[:, None, None, None]
        self.samples = np.clip(np.where(even, normal, uniform), -1, 1).astype(np.float32)
        return self.quantised(Tensor("input", self.samples[:CALIBRATED]))

    def weights(self, shape: tuple[int, ...], gain: float = 1.0) -> tuple[str, np.ndarray, ...]:
        """He-initialised quantised weights with gains that differ by channel, and their steps."""
        style = self.style
        column = (-1,) + (1,) * (len(shape) - 1)
        deviation = gain * np.sqrt(2 / np.prod(shape[1:]))
        spread = np.exp(self.rng.normal(0, 0.25, shape[0])).reshape(column)
        array = (self.rng.normal(0, deviation, shape) * spread).astype(np.float32)
        if style.per_channel:
            parts = [self.step_for(channel, style.weight_bits) for channel in array]
            step = np.array(parts, np.float32).reshape(column)
        else:
            step = np.asarray(self.step_for(array, style.weight_bits))
        name = self.constant(self.name("weight"), array)
        name, data = self.quant(name, array, step, style.weight_bits, narrow=True)
        return name, data, step

    def bias(self, filters: int, size: float, step: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Optional third input of a linear operator, and its values."""
        kind = self.style.bias
        if kind == "none":
            return [], np.zeros(filters, np.float32)
        array = self.rng.normal(0, size, filters).astype(np.float32)
        name = self.constant(self.name("bias"), array)
        if kind == "float":
            return [name], array
        name, data = self.quant(name, array, step.astype(np.float32).reshape(-1), int(kind))
        return [name], data

    def conv(
        self,
        x: Tensor,
        filters: int = 16,
        kernel: int = 3,
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu: bool = True,
        gain: float = 1.0,
    ) -> Tensor:
        """Convolution with same padding and bias, and ReLU; not quantised."""
        channels = x.data.shape[1]
        group = channels if depthwise else 1
        shape = (filters, channels // group, kernel, kernel)
        weight, array, step = self.weights(shape, gain)
        pad = kernel // 2
        result = convolve(x.data, array, stride, pad, group)
        more, offset = self.bias(filters, 0.1 * float(result.std()), step * x.step)
        attributes = {"strides": [stride] * 2, "pads": [pad] * 4, "group": group}
        name = self.op("Conv", [x.name, weight, *more], kernel_shape=[kernel] * 2, **attributes)
        return self.activated(Tensor(name, result + offset[:, None, None]), relu=relu)

    def fully_connected(self, x: Tensor, filters: int, *, relu: bool = False) -> Tensor:
        """Gemm on the flattened map; not quantised."""
        flat = x.data.reshape(len(x.data), -1)
        name = self.op("Flatten", [x.name], axis=1)
        weight, array, step = self.weights((filters, flat.shape[1]))
        result = flat @ array.T
        more, offset = self.bias(filters, 0.1 * float(result.std()), step * x.step)
        name = self.op("Gemm", [name, weight, *more], transB=1)
        return self.activated(Tensor(name, result + offset), relu=relu)

    def activated(self, x: Tensor, *, relu: bool = True) -> Tensor:
        if not relu:
            return x
        return Tensor(self.op("Relu", [x.name]), np.maximum(x.data, 0), None, positive=True)

    def add(self, left: Tensor, right: Tensor, *, relu: bool = True) -> Tensor:
        name = self.op("Add", [left.name, right.name])
        return self.activated(Tensor(name, left.data + right.data), relu=relu)

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        name = self.op("Concat", [part.name for part in parts], axis=1)
        data = np.concatenate([part.data for part in parts], 1)
        return Tensor(name, data, parts[0].step, all(part.positive for part in parts))

    def max_pool(self, x: Tensor) -> Tensor:
        name = self.op("MaxPool", [x.name], kernel_shape=[2, 2], strides=[2, 2])
        return Tensor(name, windows(x.data, 2, 2).max((-2, -1)), x.step, x.positive)

    def average_pool(self, x: Tensor) -> Tensor:
        """Mean over the whole map; not quantised."""
        name = self.op("GlobalAveragePool", [x.name])
        return Tensor(name, x.data.mean((2, 3), keepdims=True), None, x.positive)


def windows(data: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Every window of a map ``[N, C, H, W]``, as ``[N, C, h, w, kernel, kernel]``."""
    view = np.lib.stride_tricks.sliding_window_view(data, (kernel, kernel), axis=(2, 3))
    return view[:, :, ::stride, ::stride]


def convolve(x: np.ndarray, weight: np.ndarray, stride: int, pad: int, group: int) -> np.ndarray:
    """Convolution of ``[N, C, H, W]``; ``group`` is 1 or C."""
    view = windows(np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))), weight.shape[-1], stride)
    if group > 1:
        return np.einsum("nchwij,cij->nchw", view, weight[:, 0]).astype(np.float32)
    return np.tensordot(view, weight, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)


def chain(
    n_convs: int, seed: int, style: Style | None = None, *, channels: int = 16, size: int = 12
) -> Built:
    """3x3 convolutions one after the other, with ReLU in all but the last."""
    net = Net(seed, style or Style())
    x = net.input(3, size)
    for index in range(n_convs):
        x = net.quantised(net.conv(x, channels, relu=index < n_convs - 1))
    return net.built(x)


def residual(
    n_blocks: int, seed: int, style: Style | None = None, *, channels: int = 16, size: int = 12
) -> Built:
    """A stem and residual blocks of two convolutions; the sum is activated and quantised.

    With ``style.shared`` one quantiser serves both operands of an Add, else each has its own.
    """
    net = Net(seed, style or Style())
    x = net.quantised(net.conv(net.input(3, size), channels))
    for _ in range(n_blocks):
        branch = net.quantised(net.conv(x, channels))
        branch = net.conv(branch, channels, relu=False, gain=float(net.rng.uniform(0.2, 0.6)))
        x, branch = net.operands(x, branch)
        x = net.quantised(net.add(x, branch))
    return net.built(x)


def varied(seed: int, style: Style | None = None, *, size: int = 16) -> Built:
    """One of everything: strides, pooling, depth-wise, Concat, Add, an average and a classifier."""
    net = Net(seed, style or Style())
    x = net.quantised(net.conv(net.input(3, size), 16))
    x = net.max_pool(x)
    x = net.quantised(net.conv(x, 16, depthwise=True))
    left = net.conv(x, 32, 1)
    right = net.conv(x, 16, 3)
    both = np.concatenate([left.data.ravel(), right.data.ravel()])
    unsigned = net.style.unsigned
    step = net.step_for(both, net.style.bits, unsigned=unsigned)
    x = net.concat([net.quantised(left, step), net.quantised(right, step)])
    x = net.quantised(net.conv(x, 32, 3, stride=2))
    x = net.quantised(net.add(x, net.quantised(net.conv(x, 32, 1, gain=0.5))))
    x = net.quantised(net.average_pool(x))
    return net.built(net.quantised(net.fully_connected(x, 16)))


def big_chain(n_nodes: int, seed: int = 0) -> Built:
    """A file of about ``n_nodes`` nodes: 1x1 convolutions on 16 values, four nodes each."""
    net = Net(seed, Style(bias="none"))
    x = net.input(16, 1)
    while len(net.nodes) < n_nodes:
        x = net.quantised(net.conv(x, 16, 1))
    return net.built(x)
