"""The QDQ twin of an ACCESS file: the same network in standard ONNX that any tool can run.

Every map goes through QuantizeLinear and DequantizeLinear, weights are int8 and biases int32
constants behind a DequantizeLinear. The twin is built from what the file says (`AccessModel`), not
from the network that was written, so it is a second reading of the file. Where its integers can
differ from the simulator's is explained in ``docs/simulator.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import LINEAR, PIPELINED, AccessModel, is_standard
from dlaconv.backends.access.reader import stored_maps
from dlaconv.backends.access.standard_form import private_attributes, remove_attributes
from dlaconv.backends.access.twin.constants import integer_constants
from dlaconv.backends.access.twin.nodes import let_read, made, number, readers_of
from dlaconv.backends.access.twin.operators import (
    axes_as_input,
    defined_at_zero,
    without_ceil_mode,
)
from dlaconv.backends.access.twin.ports import INTEGERS, Port
from dlaconv.ir import dialect
from dlaconv.ir.graph import consumers, drop_unread, insert_after, shape_of, unique_name
from dlaconv.ir.layers import MOVING
from dlaconv.ir.passes.maps.pipelined_activations import PRODUCERS
from dlaconv.ir.pixels import TO_FIRST, TO_LAST
from dlaconv.ir.target import Target

OPSET, IR_VERSION = 14, 7
"""The oldest that have every operator, so that most tools know them."""


def qdq_twin(model: ir.Model, target: Target, ports: Mapping[str, Port]) -> ir.Model:
    """Makes the twin of a file.

    Weights are decoded when the twin is saved, a block at a time.

    Args:
        model: a file that `dlaconv.backends.access.reader.read_access` takes; it is not changed.
        target: names the attributes.
        ports: graph inputs and outputs by name, as in the source.

    Returns:
        A model of opset 14 with the file's graph inputs and outputs in real values. The integers
        of a map are called ``<map>/integers``; the map's own name stands for what the hardware
        takes them for, at graph inputs and outputs for the real values.

    Raises:
        ValueError: if the file does not tell the step of a map or the integers of a constant.
    """
    return _Twin(model, target, ports).build()


@dataclass(frozen=True)
class _Format:
    """How a map is stored: the hardware's value of one unit, and the range."""

    step: float
    low: int
    high: int

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """The type of the integers; None if 8 bits do not hold them."""
        for name in ("int8", "uint8"):
            limits = np.iinfo(name)
            if limits.min <= self.low and self.high <= limits.max:
                return limits.dtype
        return None  # signed and unsigned maps joined by a Concat


class _Twin:
    def __init__(self, model: ir.Model, target: Target, ports: Mapping[str, Port]) -> None:
        self.view = AccessModel(model, target)
        self.target, self.ports = target, ports
        self.table = stored_maps(model)
        self.copy = model.clone()
        self.formats: dict[str, _Format] = {}

    def build(self) -> ir.Model:
        pairs = list(zip(self.copy.graph, self.view.model.graph, strict=True))
        for value in self.view.inputs:
            own = next(item for item in self.copy.graph.inputs if item.name == value.name)
            self._enter(own, value)
        for node, original in pairs:
            if not is_standard(node, "Constant"):
                self._emit(node, original)
        self._finish()
        return self.copy

    def _enter(self, value: ir.Value, original: ir.Value) -> None:
        """What the host does: real values to integers."""
        name, uses = value.name or "", readers_of(value)
        stored = self.formats[name] = self._stated(original)
        port, result, shape = self.ports[name], value, shape_of(value)
        if shape is not None:
            value.shape = ir.Shape(port.taken(shape))
        low = number(f"{name}/low", port.low * stored.step)
        high = number(f"{name}/high", port.high * stored.step)
        if port.sign:
            zero = number(f"{name}/zero", 0)
            compared = made(
                "GreaterOrEqual", [value, zero], f"{name}/positive", value.shape, ir.DataType.BOOL
            )
            insert_after(value, compared)
            result = _behind(compared.outputs[0], "Where", high, low, name=f"{name}/sign")
        else:
            if port.zero:
                zero = number(f"{name}/zero", port.zero)
                result = _behind(result, "Sub", zero, name=f"{name}/shift")
            if port.real_step != stored.step:
                ratio = number(f"{name}/ratio", port.real_step / stored.step)
                result = _behind(result, "Div", ratio, name=f"{name}/scale")
            if port.border is not None and shape is not None:
                pads = dialect.constant(f"{name}/pads", port.pads(len(shape)))
                border = number(f"{name}/border", port.border[1] * stored.step)
                result = _behind(result, "Pad", pads, border, name=f"{name}/further")
                result.shape = ir.Shape([shape[i] for i in TO_LAST] if port.turn else shape)
            if port.turn and shape is not None:
                turned = ir.node("Transpose", [result], {"perm": TO_FIRST}, name=f"{name}/turn")
                insert_after(result, turned)
                result = turned.outputs[0]
                result.name, result.dtype = f"{name}/turn/out", ir.DataType.FLOAT
                result.shape = ir.Shape(shape)
            if (port.low, port.high) != (stored.low, stored.high):
                result = _behind(result, "Clip", low, high, name=f"{name}/clip")
        result = self._quantised(result, name, stored)
        result.name = f"{name}/stored"
        let_read(result, uses)

    def _emit(self, node: ir.Node, original: ir.Node) -> None:
        result, known = node.outputs[0], original.outputs[0]
        name, uses = result.name or "", readers_of(result)
        result.dtype = ir.DataType.FLOAT
        if result.shape is None and (shape := self.view.shape(known)) is not None:
            result.shape = ir.Shape(shape)
        if is_standard(node, *LINEAR):
            integer_constants(node, original, self.view)
        axes_as_input(node)
        without_ceil_mode(node, original, self.view)
        activation = _pipelined(original)
        if is_standard(node, "Div"):
            final = self._stated(known if activation is None else activation.outputs[0])
            result = self._quotient(node, original, final)
        if activation is None:
            node.outputs[0].name = unique_name(self.copy.graph, f"{name}/unrounded")
            self.formats[name] = stored = self._format(original)
            if stored.dtype is not None:
                result = self._quantised(result, name, stored)
            result.name = name
        let_read(result, uses)
        if known.is_graph_output():
            returned = self._leave(result, name)
            for index, output in enumerate(self.copy.graph.outputs):
                if output is node.outputs[0]:
                    self.copy.graph.outputs[index] = returned

    def _leave(self, value: ir.Value, name: str) -> ir.Value:
        """A graph output in real values."""
        ratio = self.ports[name].real_step / self.formats[name].step
        if ratio == 1:
            return value
        value.name = f"{name}/stored"
        constant = number(f"{name}/ratio", ratio)
        result = _behind(value, "Mul", constant, name=f"{name}/scale")
        result.name = name
        return result

    def _quotient(self, node: ir.Node, original: ir.Node, final: _Format) -> ir.Value:
        dividend = original.inputs[0]
        assert dividend is not None
        unit = self.formats[dividend.name or ""].step
        low, high = final.low * final.step, final.high * final.step
        return defined_at_zero(node, 2 * max(-low, high) / unit, low, high)

    def _format(self, original: ir.Node) -> _Format:
        """How a result is stored: what is only moved, or rectified in place, keeps its format."""
        sources = [
            self.formats[value.name or ""]
            for value in original.inputs
            if value is not None and value.name in self.formats
        ]
        if not (sources and is_standard(original, *MOVING, "Relu")):
            return self._stated(original.outputs[0])
        low = min(source.low for source in sources)
        return _Format(sources[0].step, low, max(source.high for source in sources))

    def _stated(self, value: ir.Value) -> _Format:
        """What attributes and map table say of a map.

        Raises:
            ValueError: if they give it no step.
        """
        row = self.table.get(value.name or "", {})
        step = self.view.map_step(value)
        if step is None and "exponent" in row:
            step = 2.0 ** row["exponent"]
        if step is None:
            raise ValueError(f"map {value.name!r} has no step")
        low, high = self.target.map_range
        return _Format(step, 0, high - low) if row.get("qmin") == 0 else _Format(step, low, high)

    def _quantised(self, value: ir.Value, name: str, stored: _Format) -> ir.Value:
        """QuantizeLinear and DequantizeLinear behind a value."""
        step = number(f"{name}/step", stored.step)
        zero = dialect.constant(f"{name}/zero_point", np.zeros((), stored.dtype))
        assert zero.dtype is not None
        shape, integers = value.shape, f"{name}{INTEGERS}"
        rounded = made(
            "QuantizeLinear", [value, step, zero], f"{name}/quantize", shape, zero.dtype,
            output=integers,
        )  # fmt: skip
        inputs = [rounded.outputs[0], step, zero]
        real = made("DequantizeLinear", inputs, f"{name}/dequantize", shape)
        insert_after(value, rounded, real)
        return real.outputs[0]

    def _finish(self) -> None:
        remove_attributes(self.copy, private_attributes(self.target))
        drop_unread(self.copy.graph)
        self.copy.metadata_props.clear()
        for node in self.copy.graph:
            node.metadata_props.clear()
        self.copy.graph.opset_imports.clear()
        self.copy.graph.opset_imports[""] = OPSET
        self.copy.ir_version = IR_VERSION


def _pipelined(node: ir.Node) -> ir.Node | None:
    """The activation that acts on a node's result before it is rounded."""
    following = consumers(node.outputs[0])
    if len(following) != 1 or node.outputs[0].is_graph_output():
        return None
    joined = is_standard(node, *PRODUCERS) and is_standard(following[0], *PIPELINED)
    return following[0] if joined else None


def _behind(value: ir.Value, op_type: str, *constants: ir.Value, name: str) -> ir.Value:
    """The result of one more operator behind a value."""
    node = made(op_type, [value, *constants], name, value.shape)
    insert_after(value, node)
    return node.outputs[0]
