"""Small ACCESS files for tests: legal unless a test asks for an offence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.standard_form import infer_shapes
from dlaconv.ir.target import Target

TARGET = Target.load()
MAP_SCALE = 2.0**-4
WEIGHT_SCALE = 2.0**-7 / 3


@dataclass
class Net:
    """Builds a file node by node; attributes are filled in as the target asks for them."""

    convention: str = "guide"
    scales: dict[str, float] = field(default_factory=dict)
    inputs: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def input(self, *shape: int | str, name: str = "x", scale: float = MAP_SCALE) -> ir.Value:
        value = ir.val(name, dtype=ir.DataType.FLOAT, shape=shape)
        self.inputs.append(value)
        self.scales[name] = scale
        return value

    def constant(self, array: np.ndarray, name: str) -> ir.Value:
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype
        self.initializers.append(value)
        return value

    def op(
        self, op_type: str, *inputs: ir.Value | None, scale: float | None = None, **changes
    ) -> ir.Value:
        """Adds a node; ``changes`` override attributes, None removes one."""
        name = f"{op_type.lower()}{len(self.nodes)}"
        maps = [value for value in inputs if value is not None and value.const_value is None]
        before = [self.scales.get(value.name, MAP_SCALE) for value in maps]
        after = scale if scale is not None else (before or [MAP_SCALE])[0]
        filled = {}
        for attribute, kind in TARGET.ops.get(op_type, {}).items():
            if attribute.endswith("_bitdepth"):
                filled[attribute] = 16 if attribute == "bias_bitdepth" else 8
            elif kind == "float":
                position = 1 if attribute == "B_scale" else 0
                stated = before[position] if position < len(before) else MAP_SCALE
                filled[attribute] = float(after if attribute == "output_scale" else stated)
        if len(inputs) < 3:
            filled.pop("bias_bitdepth", None)
        attributes = {key: value for key, value in (filled | changes).items() if value is not None}
        node = ir.node(op_type, list(inputs), attributes, name=name)
        node.outputs[0].name = f"{name}_out"
        self.scales[f"{name}_out"] = float(after)
        self.nodes.append(node)
        return node.outputs[0]

    def conv(
        self,
        x: ir.Value,
        channels: int = 16,
        kernel: tuple[int, ...] = (1, 1),
        *,
        group: int = 1,
        channels_in: int = 16,
        scales: np.ndarray | float | None = None,
        integers: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        op_type: str = "Conv",
        **changes,
    ) -> ir.Value:
        """Adds a convolution (or Gemm); ``weights`` overrides the stored floats."""
        shape = (channels, channels_in // group, *kernel)
        if integers is None:
            integers = self.rng.integers(-127, 128, shape)
        guide = self.convention == "guide"
        if scales is None:
            scales = WEIGHT_SCALE if guide else 1 / np.float64(2.0**-7 * 3)
        scales = np.broadcast_to(np.asarray(scales, np.float32), (channels,))
        step = scales.astype(np.float64) if guide else 1.0 / scales
        column = step.reshape(-1, *[1] * (len(shape) - 1))
        if weights is None:
            weights = (integers * column).astype(np.float32)
        number = len(self.nodes)
        inputs = [x, self.constant(weights, f"w{number}")]
        if bias is not None:
            map_step = self.scales[x.name] if guide else 1 / self.scales[x.name]
            stored = np.asarray(bias * step * map_step, np.float32)
            inputs.append(self.constant(stored, f"b{number}"))
        if op_type == "Conv" and group != 1:
            changes.setdefault("group", group)
        if op_type == "Gemm":
            changes.setdefault("transB", 1)
        if "weight_ch_scales" not in changes:
            changes["weight_ch_scales"] = [float(scale) for scale in scales]
        return self.op(op_type, *inputs, **changes)

    def gemm(self, x: ir.Value, channels: int = 16, channels_in: int = 16, **changes) -> ir.Value:
        return self.conv(x, channels, (), channels_in=channels_in, op_type="Gemm", **changes)

    def model(self, *outputs: ir.Value, opset: int = TARGET.opset, ir_version: int = 7) -> ir.Model:
        graph = ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": opset},
            name="net",
        )
        model = ir.Model(graph, ir_version=ir_version)
        inferred = infer_shapes(model)
        for value in outputs:  # an ONNX file states type and shape of its outputs
            value.dtype = ir.DataType.FLOAT
            if value.name in inferred:
                value.shape = ir.Shape(inferred[value.name])
        return model


def one_op(op_type: str, *shapes: tuple[int | str, ...], **changes) -> ir.Model:
    """A graph of a single operator on graph inputs (16x8x8 unless shapes are given)."""
    net = Net()
    named = enumerate(shapes or ((1, 16, 8, 8),))
    inputs = [net.input(*shape, name=f"x{index}") for index, shape in named]
    return net.model(net.op(op_type, *inputs, **changes))


def one_conv(
    *shape: int | str, opset: int = TARGET.opset, ir_version: int = 7, **changes
) -> ir.Model:
    """A graph of a single convolution, on a 16x8x8 map unless a shape is given."""
    shape = shape or (1, 16, 8, 8)
    net = Net(convention=changes.pop("convention", "guide"))
    changes.setdefault("channels_in", shape[1])
    return net.model(net.conv(net.input(*shape), **changes), opset=opset, ir_version=ir_version)


def one_depthwise(*shape: int, channels: int = 16, **changes) -> ir.Model:
    """A graph of a single depth-wise convolution."""
    shape = shape or (1, channels, 8, 8)
    return one_conv(*shape, channels=channels, group=channels, **changes)


def one_gemm(channels_in: int = 16, channels: int = 16, **changes) -> ir.Model:
    """A graph of a single fully connected layer."""
    net = Net()
    return net.model(net.gemm(net.input(1, channels_in), channels, channels_in, **changes))


def two_maps(op_type: str, **changes) -> ir.Model:
    """Two convolutions of one input, and an operator that joins their results."""
    net = Net()
    x = net.input(1, 16, 8, 8)
    left, right = net.conv(x), net.conv(x)
    return net.model(net.op(op_type, left, right, **changes))
