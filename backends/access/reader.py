"""Reads an ACCESS file back into a SCALED model, so that it can be run and compared.

The file states steps in node attributes; here each rounding becomes a quantise node again. Foreign
files are read too: either scale convention, the guide's demo attribute names, scales off the grid
(taken as they are; `dlaconv.backends.access.readable` objects). What the attributes cannot say
(unsigned maps, the step of an input that only an Add reads) is in the metadata of our own files.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, is_standard
from dlaconv.backends.access.standard_form import private_attributes
from dlaconv.backends.access.writer import MAPS
from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.errors import ConversionError
from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import consumers, drop_unread, insert_after, insert_before, unique_name
from dlaconv.ir.layers import PIPELINED, ROUNDING, SAME_SCALE
from dlaconv.ir.passes.maps.pipelined_activations import PRODUCERS
from dlaconv.ir.pixels import Pixels
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.target import Target


@dataclass(frozen=True)
class AccessFile:
    """An ACCESS file read back.

    Attributes:
        model: the SCALED model.
        convention: what a scale in the file means.
        convention_source: how that is known, in words.
        maps: the map table of our own files (see `dlaconv.backends.access.writer.map_table`),
            empty for foreign ones.
    """

    model: ir.Model
    convention: str
    convention_source: str
    maps: dict[str, dict[str, Any]]


def read_access(model: ir.Model, target: Target, *, convention: str | None = None) -> AccessFile:
    """Turns an ACCESS model into a SCALED one.

    Args:
        model: the file as read; it is not changed.
        target: names the attributes.
        convention: what a scale means; recorded or detected if None.

    Raises:
        ConversionError: listing everything without which the file cannot be run: a map without
            a power-of-two scale, weights without scales, operators that the hardware lacks.
    """
    return read_view(AccessModel(model, target, convention))


def read_view(view: AccessModel) -> AccessFile:
    """The same for a file that is looked at already, which is decoded only once then."""
    return _Reader(view).read()


def stored_maps(model: ir.Model) -> dict[str, dict[str, Any]]:
    """The map table in a model's metadata, empty if there is none or it is damaged."""
    try:
        table = json.loads(model.metadata_props.get(MAPS, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(table, dict):
        return {}
    return {str(name): row for name, row in table.items() if _is_row(row)}


def _is_row(row: Any) -> bool:
    """True for a row of the map table in the form that we write it."""
    if not isinstance(row, dict):
        return False
    integers = [row.get(key) for key in ("exponent", "qmin", "qmax")]
    steps = [row[key] for key in ("real_step", "source_step") if key in row]
    clip = row.get("clip", [0.0, 0.0])
    errors = row.get("step_errors", [])
    gains = row.get("gain_errors", {})
    bias = row.get("bias_error", 0.0)
    channels = row.get("channel_ratios", {"ratios": []})
    ratios = channels.get("ratios") if isinstance(channels, dict) else None
    runs = row.get("channels", [])
    return (
        all(type(value) is int and abs(value) < 1 << 16 for value in integers)
        and all(_is_number(step) and step > 0 for step in steps)
        and isinstance(clip, list)
        and len(clip) == 2
        and ("clip" not in row or "real_step" in row)
        and isinstance(errors, list)
        and isinstance(gains, dict)
        and isinstance(ratios, list)
        and isinstance(runs, list)
        and all(_is_run(run) for run in runs)
        and all(_is_number(ratio) and ratio > 0 for ratio in ratios)
        and all(_is_number(value) for value in (bias, *clip, *errors, *gains.values()))
        and ("pixels" not in row or _are_pixels(row["pixels"]))
    )


def _are_pixels(given: Any) -> bool:
    """True for what `dlaconv.ir.pixels` writes."""
    try:
        Pixels.from_json(given)
    except ValueError:
        return False
    return True


def _is_run(run: Any) -> bool:
    """True for two integers of the size of a channel count."""
    pair = isinstance(run, list) and len(run) == 2
    return pair and all(type(item) is int and 0 <= item < 1 << 31 for item in run)


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 1 << 64  # larger ones are no float
    return type(value) is float and math.isfinite(value)


class _Reader:
    def __init__(self, view: AccessModel) -> None:
        self.view, self.target = view, view.target
        self.table = stored_maps(view.model)
        self.problems = Diagnostics()
        self.copy = view.model.clone()

    def read(self) -> AccessFile:
        originals = dict(zip(self.copy.graph, self.view.model.graph, strict=True))
        self._lift_constants()
        for copy, original in originals.items():
            if copy.graph is not None:
                self._constants(copy, original)
        for value in self.copy.graph.inputs:
            if value.name not in self.copy.graph.initializers and value.uses():
                self._quantise_input(value)
        for copy, original in originals.items():
            if copy.graph is not None:
                self._quantise_result(copy, original)
        if self.problems.errors:
            raise ConversionError(self.problems)
        self._finish(originals)
        return AccessFile(self.copy, self.view.convention, self.view.convention_source, self.table)

    def _problem(self, rule: str, name: str, message: str, node: ir.Node | None = None) -> None:
        self.problems.add(
            Diagnostic(
                rule,
                name,
                message,
                location=self.view.location(node),
                help="run 'dlaconv check' for everything that is wrong with the file",
            )
        )

    def _lift_constants(self) -> None:
        if not any(is_standard(node, "Constant") for node in self.copy.graph):
            return
        from onnx_ir.passes.common import LiftConstantsToInitializersPass

        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(self.copy)

    def _constants(self, copy: ir.Node, original: ir.Node) -> None:
        if not is_standard(copy, "Conv", "Gemm"):
            return
        decoded = self.view.decode_weights(original)
        if decoded is None or not decoded.usable.all():
            message = "weights without usable weight_ch_scales"
            self._problem("AT-1", "missing-linear-attributes", message, original)
            return
        shape = (-1,) + (1,) * (len(decoded.shape) - 1)
        steps = decoded.steps
        name = f"{self._stem(copy)}/weights_int"
        integers = dialect.constant(name, decoded.tensor(name, self.target.weight_range))
        self._give(copy, 1, integers, steps.astype(np.float32).reshape(shape), "weights")
        if is_standard(copy, "Gemm"):
            copy.attributes["transB"] = ir.AttrInt64("transB", 1)
        if len(copy.inputs) > 2 and copy.inputs[2] is not None:
            bias = self.view.decode_bias(original)
            step_in = self.view.map_step(original.inputs[0])
            if bias is None or step_in is None:
                message = "a bias whose step is unknown (weight and input scale)"
                self._problem("SC-5", "bias-off-grid", message, original)
                return
            values = np.clip(bias.integers, *self.target.bias_range).astype(np.int32)
            integers = dialect.constant(f"{self._stem(copy)}/bias_int", values)
            self._give(copy, 2, integers, (steps * step_in).astype(np.float32), "bias")

    def _give(
        self, node: ir.Node, index: int, integers: ir.Value, step: np.ndarray, what: str
    ) -> None:
        name = f"{self._stem(node)}/{what}"
        holder = dialect.dequantize(integers, step, name=name, output=f"{name}_real")
        insert_before(node, holder)
        node.replace_input_with(index, holder.outputs[0])

    @staticmethod
    def _stem(node: ir.Node) -> str:
        return node.name or node.outputs[0].name or ""

    def _quantisation(self, value: ir.Value, node: ir.Node | None) -> Quantisation | None:
        """The step of a map as the file states it; a problem is noted if it has none."""
        row = self.table.get(value.name or "", {})
        step = self.view.map_step(value)
        if step is None and isinstance(row.get("exponent"), int) and abs(row["exponent"]) < 126:
            step = 2.0 ** row["exponent"]
        if step is None or PowerOfTwo.exactly(step) is None:
            message = f"map {value.name!r} has no power-of-two scale"
            self._problem("SC-1", "map-scale-grid", message, node)
            return None
        low, high = self.target.map_range
        if row.get("qmin") == 0:
            low, high = 0, high - low
        return Quantisation(np.array(step, np.float32), np.zeros((), np.float32), low, high)

    def _quantise_input(self, value: ir.Value) -> None:
        uses = list(value.uses())
        original = next(v for v in self.view.model.graph.inputs if v.name == value.name)
        quantisation = self._quantisation(original, None)
        if quantisation is None:
            return
        node = dialect.quantize(value, quantisation, name=f"{value.name}/quantize")
        insert_after(value, node)
        for use in uses:
            use.node.replace_input_with(use.idx, node.outputs[0])

    def _quantise_result(self, copy: ir.Node, original: ir.Node) -> None:
        moving = [op for op in SAME_SCALE if op not in PIPELINED]
        if is_standard(copy, *moving):
            return
        if not is_standard(copy, *ROUNDING, *PIPELINED):
            self._problem(
                "GR-3", "unsupported-operator", f"the hardware has no {copy.op_type}", original
            )
            return
        result = copy.outputs[0]
        following = consumers(result)
        pipelined = (
            is_standard(copy, *PRODUCERS)
            and len(following) == 1
            and is_standard(following[0], *PIPELINED)
            and not result.is_graph_output()
        )
        stored_relu = is_standard(copy, "Relu") and _reads_stored(copy)
        if pipelined or stored_relu:
            return
        quantisation = self._quantisation(original.outputs[0], original)
        if quantisation is None:
            return
        name = result.name or ""
        node = dialect.quantize(result, quantisation, name=f"{copy.name or name}/quantize")
        insert_after(result, node)
        for use in list(result.uses()):
            if use.node is not node:
                use.node.replace_input_with(use.idx, node.outputs[0])
        if result.is_graph_output():
            outputs = self.copy.graph.outputs
            for index, output in enumerate(outputs):
                if output is result:
                    outputs[index] = node.outputs[0]
        result.name = unique_name(self.copy.graph, f"{name}/unrounded")
        node.outputs[0].name = name

    def _finish(self, originals: dict[ir.Node, ir.Node]) -> None:
        private = private_attributes(self.target)
        for node, original in originals.items():
            for name in private & set(node.attributes):
                del node.attributes[name]
            for value, known in zip(node.outputs, original.outputs, strict=True):
                shape = self.view.shape(known)
                if value.shape is None and shape is not None:
                    value.shape = ir.Shape(shape)
        for node in self.copy.graph:
            if dialect.is_quantize(node) and node.outputs[0].shape is None:
                source = node.inputs[0]
                node.outputs[0].shape = source.shape if source is not None else None
        drop_unread(self.copy.graph)
        _modern_forms(self.copy)
        self.copy.ir_version = dialect.IR_VERSION
        dialect.install(self.copy)


def _reads_stored(node: ir.Node) -> bool:
    """True for an activation whose input is a stored map, not the result of a layer."""
    source = node.inputs[0]
    made_by = source.producer() if source is not None else None
    return made_by is None or dialect.is_quantize(made_by) or is_standard(made_by, *SAME_SCALE)


def _modern_forms(model: ir.Model) -> None:
    """Opset 12 to the dialect's opset: ReduceSum and Squeeze take their axes as input."""
    for node in model.graph:
        axes = node.attributes.get("axes")
        if axes is None or not is_standard(node, "ReduceSum", "Squeeze", "Unsqueeze"):
            continue
        constant = dialect.constant(f"{node.name}/axes", np.array(list(axes.as_ints()), np.int64))
        model.graph.register_initializer(constant)
        node.resize_inputs(2)
        node.replace_input_with(1, constant)
        del node.attributes["axes"]
    model.graph.opset_imports[""] = dialect.OPSET


__all__ = ["AccessFile", "read_access", "read_view", "stored_maps"]
