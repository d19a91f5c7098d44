"""The ``org.dlaconv`` operators: quantisation as explicit graph nodes with executable bodies.

Every operator is an ONNX function, so shape inference looks through it and any onnxruntime runs
it: each intermediate model of a conversion can be executed. Nothing else builds or reads these
nodes.

* ``Quantize<Mode>(x, step, zero_point) <qmin, qmax>``: rounds ``x`` to the grid, keeps it real.
* ``Dequantize(q, step)``: constant integers (weights) as real values.
* ``Bipolar(x, step)``: ``step`` where ``x >= 0``, else ``-step``.
* ``FixedPoint<Mode>(x, step, low, high)``: rounds each element of ``x`` to a grid of its own and
  saturates it at ends of its own; ``FixedPoint<Mode>Wrap`` wraps it. Stage IMPORTED only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx_ir as ir

from dlaconv.ir.blocks import BlockTensor, shape_tuple
from dlaconv.ir.element_grids import ElementGrids
from dlaconv.ir.quantisation import FloatArray, Quantisation
from dlaconv.ir.rounding import Rounding

DOMAIN = "org.dlaconv"
VERSION = 1
OPSET = 18
IR_VERSION = 10
DEQUANTIZE = "Dequantize"
BIPOLAR = "Bipolar"

_CAMEL = {mode: "".join(word.title() for word in mode.value.split("-")) for mode in Rounding}
_QUANTIZE = {f"Quantize{name}": mode for mode, name in _CAMEL.items()}
_QUANTIZE_WIDE = {f"{name}Wide": mode for name, mode in _QUANTIZE.items()}
_MODES = {**_QUANTIZE, **_QUANTIZE_WIDE}
_SATURATE = {f"FixedPoint{name}": mode for mode, name in _CAMEL.items()}
_WRAP = {f"{name}Wrap": mode for name, mode in _SATURATE.items()}
_FIXED_POINT = {**_SATURATE, **_WRAP}
_FLOAT32_INTEGER_BITS = 24


def is_quantize(node: ir.Node | None) -> bool:
    """True for a quantise node of any rounding mode."""
    return node is not None and node.domain == DOMAIN and node.op_type in _MODES


def is_dequantize(node: ir.Node | None) -> bool:
    """True for a ``Dequantize`` node."""
    return node is not None and node.domain == DOMAIN and node.op_type == DEQUANTIZE


def is_bipolar(node: ir.Node | None) -> bool:
    """True for a ``Bipolar`` node."""
    return node is not None and node.domain == DOMAIN and node.op_type == BIPOLAR


def is_fixed_point(node: ir.Node | None) -> bool:
    """True for a node with a grid per element, of any rounding mode."""
    return node is not None and node.domain == DOMAIN and node.op_type in _FIXED_POINT


def rounds(node: ir.Node | None) -> bool:
    """True for a node that puts real values on a grid, of whatever kind."""
    return is_quantize(node) or is_bipolar(node) or is_fixed_point(node)


def quantize(
    x: ir.Value, quantisation: Quantisation, *, name: str, output: str | None = None
) -> ir.Node:
    """A quantise node on ``x``; its parameters become initializers when it enters a graph.

    Args:
        x: the value to quantise.
        quantisation: what to do to it.
        name: the node's name; parameters are called ``<name>/step`` and ``<name>/zero_point``.
        output: name of the result, ``<name>/out`` unless given.
    """
    wide = "Wide" if quantisation.bits > _FLOAT32_INTEGER_BITS else ""
    node = ir.node(
        f"Quantize{_CAMEL[quantisation.rounding]}{wide}",
        [
            x,
            constant(f"{name}/step", quantisation.step),
            constant(f"{name}/zero_point", quantisation.zero_point),
        ],
        {"qmin": quantisation.qmin, "qmax": quantisation.qmax},
        domain=DOMAIN,
        name=name,
    )
    _describe_output(node, x, output or f"{name}/out")
    return node


def dequantize(integers: ir.Value, step: FloatArray, *, name: str, output: str) -> ir.Node:
    """A node that gives constant ``integers`` (int8, int16 or int32) their real value.

    Args:
        integers: an initializer.
        step: real value of one unit; broadcasts against the integers.
        name: the node's name.
        output: name of the result.
    """
    step_value = constant(f"{name}/step", np.asarray(step, np.float32))
    node = ir.node(DEQUANTIZE, [integers, step_value], domain=DOMAIN, name=name)
    _describe_output(node, integers, output)
    return node


def bipolar(x: ir.Value, step: FloatArray, *, name: str, output: str | None = None) -> ir.Node:
    """A sign node: ``step`` where ``x >= 0``, else ``-step`` (QONNX ``BipolarQuant``)."""
    node = ir.node(
        BIPOLAR,
        [x, constant(f"{name}/step", np.asarray(step, np.float32))],
        domain=DOMAIN,
        name=name,
    )
    _describe_output(node, x, output or f"{name}/out")
    return node


def fixed_point(
    x: ir.Value, grids: ElementGrids, *, name: str, output: str | None = None
) -> ir.Node:
    """A node that quantises each element of ``x`` by itself; see `quantize`."""
    node = ir.node(
        f"FixedPoint{_CAMEL[grids.rounding]}{'Wrap' if grids.wraps else ''}",
        [
            x,
            constant(f"{name}/step", grids.step),
            constant(f"{name}/low", grids.low),
            constant(f"{name}/high", grids.high),
        ],
        domain=DOMAIN,
        name=name,
    )
    _describe_output(node, x, output or f"{name}/out")
    return node


def element_grids_of(node: ir.Node) -> ElementGrids:
    """Reads a node of `fixed_point` back.

    Raises:
        ValueError: if it is none, or its parameters are not constants.
    """
    if not is_fixed_point(node):
        raise ValueError(f"{node.name!r} has no grid per element")
    step, low, high = map(array_of, node.inputs[1:])
    return ElementGrids(step, low, high, _FIXED_POINT[node.op_type], node.op_type in _WRAP)


def quantisation_of(node: ir.Node) -> Quantisation:
    """Reads a quantise node back.

    Raises:
        ValueError: if the node is no quantise node or its parameters are not constants.
    """
    if not is_quantize(node):
        raise ValueError(f"{node.name!r} is no quantise node")
    return Quantisation(
        step=array_of(node.inputs[1]),
        zero_point=array_of(node.inputs[2]),
        qmin=node.attributes["qmin"].as_int(),
        qmax=node.attributes["qmax"].as_int(),
        rounding=_MODES[node.op_type],
    )


def ends_of(node: ir.Node) -> tuple[float, float] | None:
    """Smallest and largest real value of what a node quantises; None if it does not."""
    if is_quantize(node):
        return quantisation_of(node).ends
    return element_grids_of(node).ends if is_fixed_point(node) else None


def rounding_of(node: ir.Node) -> Rounding:
    """The rounding mode of a quantise node."""
    return _MODES[node.op_type]


def step_of(node: ir.Node) -> FloatArray:
    """The step of a ``Dequantize`` or ``Bipolar`` node."""
    return array_of(node.inputs[1])


def constant(name: str, data: np.ndarray | float | BlockTensor) -> ir.Value:
    """A constant value, registered as initializer by `install` or `ir.graph.add_node`."""
    if isinstance(data, BlockTensor):
        tensor: ir.TensorProtocol = data
    else:
        tensor = ir.Tensor(np.asarray(data, order="C"), name=name)
    return ir.val(name, dtype=tensor.dtype, shape=shape_tuple(tensor), const_value=tensor)


def array_of(value: ir.Value | None) -> np.ndarray:
    """The array behind a constant value.

    Raises:
        ValueError: if the value is no constant.
    """
    if value is None or value.const_value is None:
        raise ValueError(f"{value.name if value else 'a missing input'!r} is no constant")
    return value.const_value.numpy()


def install(model: ir.Model) -> None:
    """Declares the dialect in a model that uses it: imports its domain and adds its functions."""
    for node in model.graph.all_nodes():
        if node.domain != DOMAIN:
            continue
        model.graph.opset_imports[DOMAIN] = VERSION
        identifier = node.op_identifier()
        if identifier not in model.functions:
            model.functions[identifier] = _function(node.op_type)


def _describe_output(node: ir.Node, x: ir.Value, name: str) -> None:
    node.outputs[0].name = name
    node.outputs[0].shape = x.shape
    node.outputs[0].dtype = ir.DataType.FLOAT


def _function(op_type: str) -> ir.Function:
    if op_type == DEQUANTIZE:
        return _Body("q", "step").dequantize()
    if op_type == BIPOLAR:
        return _Body("x", "step").bipolar()
    if op_type in _FIXED_POINT:
        return _Body("x", "step", "low", "high").fixed_point(op_type)
    return _Body("x", "step", "zero_point").quantize(op_type)


class _Body:
    """Builds one function body node by node; a method per operator of the dialect."""

    def __init__(self, *inputs: str) -> None:
        self.inputs = [ir.val(name) for name in inputs]
        self.nodes: list[ir.Node] = []

    def op(self, op_type: str, *inputs: ir.Value, **attributes: ir.Attr | float) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes)
        node.outputs[0].name = f"v{len(self.nodes)}"
        self.nodes.append(node)
        return node.outputs[0]

    def number(self, value: float, like: ir.Value) -> ir.Value:
        constant_node = self.op("Constant", value_float=value)
        return self.op("CastLike", constant_node, like)

    def finish(self, name: str, output: ir.Value, attributes: tuple[str, ...] = ()) -> ir.Function:
        graph = ir.Graph(self.inputs, [output], nodes=self.nodes, opset_imports={"": OPSET})
        declared = [ir.Attr(attribute, ir.AttributeType.INT, None) for attribute in attributes]
        return ir.Function(DOMAIN, name, graph=graph, attributes=declared)

    def dequantize(self) -> ir.Function:
        q, step = self.inputs
        return self.finish(DEQUANTIZE, self.op("Mul", self.op("CastLike", q, step), step))

    def bipolar(self) -> ir.Function:
        x, step = self.inputs
        positive = self.op("GreaterOrEqual", x, self.number(0.0, x))
        return self.finish(BIPOLAR, self.op("Where", positive, step, self.op("Neg", step)))

    def quantize(self, op_type: str) -> ir.Function:
        x, step, zero_point = self.inputs
        scaled = self.op("Add", self.op("Div", x, step), zero_point)
        if op_type in _QUANTIZE_WIDE:  # float32 cannot hold the integers
            scaled, step, zero_point = (
                self.op("Cast", value, to=int(ir.DataType.DOUBLE))
                for value in (scaled, step, zero_point)
            )
        rounded = _ROUND[_MODES[op_type]](self, scaled)
        low, high = (
            self.op("CastLike", self.op("Constant", value_int=_reference(name)), rounded)
            for name in ("qmin", "qmax")
        )
        integer = self.op("Clip", rounded, low, high)
        real = self.op("Mul", self.op("Sub", integer, zero_point), step)
        if op_type in _QUANTIZE_WIDE:
            real = self.op("Cast", real, to=int(ir.DataType.FLOAT))
        return self.finish(op_type, real, ("qmin", "qmax"))

    def fixed_point(self, op_type: str) -> ir.Function:
        x, step, low, high = self.inputs
        real = self.op("Mul", _ROUND[_FIXED_POINT[op_type]](self, self.op("Div", x, step)), step)
        if op_type in _SATURATE:
            return self.finish(op_type, self.op("Max", self.op("Min", real, high), low))
        span = self.op("Add", self.op("Sub", high, low), step)
        above = self.op("Sub", real, low)
        turns = self.op("Floor", self.op("Div", above, span))
        within = self.op("Sub", above, self.op("Mul", turns, span))
        return self.finish(op_type, self.op("Add", within, low))

    def plus_where(self, low: ir.Value, condition: ir.Value) -> ir.Value:
        return self.op("Add", low, self.op("CastLike", condition, low))

    def half_up(self, x: ir.Value, compare: str = "GreaterOrEqual") -> ir.Value:
        # f = floor(x), f + (x - f >= 0.5): floor(x + 0.5) is wrong at 0.49999997 in float32.
        low = self.op("Floor", x)
        fraction = self.op("Sub", x, low)
        return self.plus_where(low, self.op(compare, fraction, self.number(0.5, x)))

    def half_dpu(self, x: ir.Value) -> ir.Value:
        negative = self.op("Less", x, self.number(0.0, x))
        return self.op("Where", negative, self.half_up(x), self.op("Round", x))

    def on_magnitude(self, x: ir.Value, round_: Callable[[ir.Value], ir.Value]) -> ir.Value:
        return self.op("Mul", self.op("Sign", x), round_(self.op("Abs", x)))


def _reference(name: str) -> ir.Attr:
    return ir.RefAttr("value_int", name, ir.AttributeType.INT)


_ROUND: dict[Rounding, Callable[[_Body, ir.Value], ir.Value]] = {
    Rounding.HALF_EVEN: lambda body, x: body.op("Round", x),
    Rounding.HALF_UP: lambda body, x: body.half_up(x),
    Rounding.HALF_AWAY: lambda body, x: body.on_magnitude(x, body.half_up),
    Rounding.HALF_ZERO: lambda body, x: body.on_magnitude(x, lambda m: body.half_up(m, "Greater")),
    Rounding.HALF_DPU: lambda body, x: body.half_dpu(x),
    Rounding.FLOOR: lambda body, x: body.op("Floor", x),
    Rounding.CEIL: lambda body, x: body.op("Ceil", x),
    Rounding.UP: lambda body, x: body.on_magnitude(x, lambda m: body.op("Ceil", m)),
    Rounding.DOWN: lambda body, x: body.on_magnitude(x, lambda m: body.op("Floor", m)),
}


@cache
def op_types() -> tuple[str, ...]:
    """Every operator name of the dialect."""
    return (*_MODES, *_FIXED_POINT, DEQUANTIZE, BIPOLAR)
