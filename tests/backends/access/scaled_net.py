"""Small SCALED models, built node by node."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.layers import Network, network_of
from dlaconv.ir.quantisation import Quantisation

INT8 = (-128, 127)
UINT8 = (0, 255)


@dataclass
class Net:
    """Builds a SCALED model node by node; every method returns the stored map."""

    nodes: list[ir.Node] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)
    exponents: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    built: ir.Model | None = None

    def input(self, shape, exponent=0, limits=INT8):
        name = f"in{len(self.inputs)}"
        value = ir.val(name, dtype=ir.DataType.FLOAT, shape=tuple(shape))
        self.inputs.append(value)
        return self.quantised(value, exponent, limits)

    def quantised(self, x, exponent, limits=INT8):
        step = np.float32(2.0**exponent)
        quantisation = Quantisation(step, np.float32(0), *limits)
        name = f"q{len(self.nodes)}"
        node = dialect.quantize(x, quantisation, name=name, output=f"{name}/map")
        self.nodes.append(node)
        self.exponents[node.outputs[0].name] = exponent
        self.ranges[node.outputs[0].name] = limits
        return node.outputs[0]

    def op(self, op_type, inputs, shape, **attributes):
        name = f"{op_type.lower()}{len(self.nodes)}"
        node = ir.node(op_type, list(inputs), attributes, name=name)
        node.outputs[0].name = f"{name}/out"
        node.outputs[0].shape = ir.Shape(shape)
        node.outputs[0].dtype = ir.DataType.FLOAT
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, array):
        return dialect.constant(f"c{len(self.nodes)}.{id(array)}", np.asarray(array))

    def integers(self, array, step):
        name = f"w{len(self.nodes)}"
        node = dialect.dequantize(
            dialect.constant(f"{name}/ints", array), step, name=name, output=f"{name}/real"
        )
        self.nodes.append(node)
        return node.outputs[0]

    def activated(self, x, activation):
        """``activation``: None, "Relu", ("LeakyRelu", alpha) or ("PRelu", slopes)."""
        if activation is None:
            return x
        if activation == "Relu":
            return self.op("Relu", [x], x.shape)
        kind, slope = activation
        if kind == "LeakyRelu":
            return self.op("LeakyRelu", [x], x.shape, alpha=float(slope))
        return self.op("PRelu", [x, self.constant(np.asarray(slope, np.float32))], x.shape)

    def conv(
        self, x, w, steps, out, *, bias=None, strides=(1, 1), pads=(0, 0, 0, 0),
        dilations=(1, 1), group=1, activation=None, limits=INT8, stored=True,
    ):  # fmt: skip
        w = np.asarray(w)
        inputs = [x, self._weights(w, steps)]
        if bias is not None:
            inputs.append(self._bias(bias, steps, x))
        spatial = window_shape(x.shape[2:], w.shape[2:], strides, pads, dilations)
        y = self.op(
            "Conv", inputs, (x.shape[0], len(w), *spatial), kernel_shape=w.shape[2:],
            strides=strides, pads=pads, dilations=dilations, group=group,
        )  # fmt: skip
        y = self.activated(y, activation)
        return self.quantised(y, out, limits) if stored else y

    def gemm(self, x, w, steps, out, *, bias=None, activation=None, limits=INT8):
        inputs = [x, self._weights(np.asarray(w), steps)]
        if bias is not None:
            inputs.append(self._bias(bias, steps, x))
        y = self.op("Gemm", inputs, (x.shape[0], len(w)), transB=1)
        return self.quantised(self.activated(y, activation), out, limits)

    def binary(self, op_type, a, b, out, *, activation=None, limits=INT8):
        if op_type == "MatMul":
            shape = (*a.shape[:-1], b.shape[-1])
        else:
            shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
        y = self.op(op_type, [a, b], shape)
        return self.quantised(self.activated(y, activation), out, limits)

    def unary(self, op_type, x, out, shape=None, *, activation=None, limits=INT8, **attributes):
        y = self.op(op_type, [x], shape or x.shape, **attributes)
        return self.quantised(self.activated(y, activation), out, limits)

    def pool(self, op_type, x, kernel, out=None, *, activation=None, limits=INT8, **attributes):
        pads = attributes.setdefault("pads", (0, 0, 0, 0))
        strides = attributes.setdefault("strides", (1, 1))
        spatial = window_shape(
            x.shape[2:], kernel, strides, pads, attributes.get("dilations", (1, 1)),
            ceil_mode=attributes.get("ceil_mode", 0),
        )  # fmt: skip
        shape = (*x.shape[:2], *spatial)
        if op_type == "MaxPool":
            return self.moved("MaxPool", [x], shape, kernel_shape=kernel, **attributes)
        return self.unary(
            op_type, x, out, shape, activation=activation, limits=limits,
            kernel_shape=kernel, **attributes,
        )  # fmt: skip

    def reduce_sum(self, x, axes, out, *, keepdims=1, activation=None):
        shape = tuple(
            1 if i in axes else d for i, d in enumerate(x.shape) if keepdims or i not in axes
        )
        y = self.op("ReduceSum", [x, self.constant(np.array(axes))], shape, keepdims=keepdims)
        return self.quantised(self.activated(y, activation), out)

    def moved(self, op_type, inputs, shape, **attributes):
        y = self.op(op_type, inputs, shape, **attributes)
        self.exponents[y.name] = self.exponents[inputs[0].name]
        stored = [self.ranges[x.name] for x in inputs if x.name in self.ranges]
        self.ranges[y.name] = (min(low for low, _ in stored), max(high for _, high in stored))
        return y

    def rectified(self, x, activation):
        """An activation that stands alone."""
        y = self.activated(x, activation)
        self.exponents[y.name], self.ranges[y.name] = self.exponents[x.name], self.ranges[x.name]
        return y

    def model(self, *outputs):
        if self.built is not None:
            return self.built
        graph = ir.Graph(
            self.inputs, list(outputs), nodes=self.nodes, opset_imports={"": 18}, name="net"
        )
        for node in self.nodes:
            for value in node.inputs:
                if value is not None and value.const_value is not None:
                    value.const_value.name = value.name
                    graph.initializers.setdefault(value.name, value)
        model = ir.Model(graph, ir_version=10)
        dialect.install(model)
        self.built = model
        return model

    def network(self, *outputs) -> Network:
        return network_of(self.model(*outputs))

    def _weights(self, w, steps):
        shape = (-1, *(1,) * (w.ndim - 1))
        return self.integers(
            w.astype(np.int8), np.asarray([float(s) for s in steps], np.float32).reshape(shape)
        )

    def _bias(self, bias, steps, x):
        unit = 2.0 ** self.exponents[x.name]
        return self.integers(
            np.asarray(bias, np.int32), np.asarray([float(s) * unit for s in steps], np.float32)
        )


def window_shape(spatial, kernel, strides, pads, dilations, ceil_mode=0):
    rank = len(spatial)
    shape = []
    for i in range(rank):
        padded = spatial[i] + pads[i] + pads[rank + i]
        room = padded - dilations[i] * (kernel[i] - 1) - 1
        windows = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
        if ceil_mode and (windows - 1) * strides[i] >= spatial[i] + pads[i]:
            windows -= 1
        shape.append(windows)
    return tuple(shape)
