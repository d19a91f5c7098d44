"""Weights that Brevitas exports as they were before rounding.

Brevitas 0.13 puts the unrounded weights in front of a Quant and writes ``rounding_mode = ROUND``
whatever the quantiser does. For a quantiser that rounds to nearest that is right. For any other
(floor, round_to_zero, learned rounding) the file is, byte for byte, that of another network;
nothing in it tells. Weight normalisation (A2Q is one) is left out as well; there the dynamo
exporter notes the quantiser's class.

Files whose weights lie on their grid already (earlier versions rounded them, and so does
``merge_quant_weights``) are beyond doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity, listed
from dlaconv.frontends.handlers import Import
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import is_constant
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

_PRODUCER = "pytorch"
_QUANTISERS = ("Quant", "IntQuant")
_CLASSES, _SCOPES = "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes"
_MODULE = re.compile(r"'([^']{1,200})\.weight_quant'")
_NORMALISING = "DecoupledWeightQuant"
"""Brevitas' classes of weight quantisers that normalise before they round begin with this."""
_LOOKED_AT = 4096
"""Values of each tensor that are looked at; unrounded weights show at once."""
_OFF_GRID = 1e-3
_NAMED = 6
_REMEDY = (
    "call brevitas.nn.utils.merge_quant_weights(model, example) before the export: the file then "
    "holds the rounded weights"
)
_COMPARE = "or compare the outputs of `dlaconv run` with those of the Brevitas model"


class Noted(NamedTuple):
    """What the dynamo exporter notes of a weight quantiser in a node's metadata.

    Attributes:
        module: path of the layer in the PyTorch model, empty if unknown.
        normalised: True if the weights are normalised before they are rounded.
    """

    module: str
    normalised: bool


def exporters_notes(model: ir.Model) -> dict[ir.Node, Noted]:
    """The metadata of quantisers, as far as they concern weights.

    Args:
        model: as it was read, with its metadata.
    """
    found = {}
    for node in model.graph:
        if node.op_type in _QUANTISERS and (classes := node.metadata_props.get(_CLASSES)):
            module = _MODULE.search(node.metadata_props.get(_SCOPES, ""))
            found[node] = Noted(module[1] if module else "", _NORMALISING in classes)
    return found


def report_unrounded_weights(state: Import, producer: str, notes: Mapping[str, Noted]) -> None:
    """Says which weights may not be those that the network was trained with.

    With evidence it is a warning, else one note for the whole file: most quantisers round to
    nearest.

    Args:
        state: the model at stage IMPORTED.
        producer: name of the program that wrote the file.
        notes: what `exporters_notes` found, by node name.
    """
    if not producer.startswith(_PRODUCER):
        return  # Brevitas exports through PyTorch; others mean what they write
    certain: list[tuple[str, ir.Node]] = []
    doubtful: list[tuple[str, ir.Node]] = []
    for node in _unrounded(state.model):
        noted = notes.get(node.name or "", Noted("", False))
        name = noted.module or provenance.location(node).layer
        (certain if noted.normalised else doubtful).append((name, node))
    if certain:
        _add(
            state,
            certain,
            "DLA120",
            "weights-before-normalisation",
            "holds them as they were before the weight quantiser normalised and rounded them "
            "(weight normalisation, A2Q)",
            Severity.WARNING,
            "Brevitas leaves the normalisation out of its QONNX export; the network in the file is "
            "another one",
        )
    if not doubtful:
        return
    modes = _other_modes(state.model)
    evidence = f"; quantisers of maps round with {', '.join(modes)}" if modes else ""
    _add(
        state,
        doubtful,
        "DLA119",
        "unverified-weight-rounding",
        f"holds them unrounded and says that they round to nearest{evidence}",
        Severity.WARNING if modes else Severity.NOTE,
        "Brevitas writes ROUND for every weight quantiser; if one rounds otherwise (floor, "
        "round_to_zero, learned rounding), up to every second of its weights is off by one unit",
    )


def _add(
    state: Import,
    weights: Sequence[tuple[str, ir.Node]],
    rule: str,
    name: str,
    what: str,
    severity: Severity,
    note: str,
) -> None:
    place = provenance.location(weights[0][1], state.model)
    modules = listed([repr(module) for module, _ in weights], _NAMED)
    state.diagnostics.add(
        Diagnostic(
            rule,
            name,
            f"weights of {modules}: the file {what}",
            severity,
            place,
            help=f"{_REMEDY}; {_COMPARE}",
            notes=(note,),
        )
    )


def _unrounded(model: ir.Model) -> Iterator[ir.Node]:
    """The quantise nodes of constant tensors, biases apart, that still have something to round."""
    for node in model.graph:
        if dialect.is_quantize(node) and is_constant(node.inputs[0]):
            array, quantisation = (
                dialect.array_of(node.inputs[0]),
                dialect.quantisation_of(node),
            )
            to_nearest = quantisation.rounding is Rounding.HALF_EVEN
            if to_nearest and array.ndim > 1 and not _on_grid(array, quantisation):
                yield node


def _on_grid(array: np.ndarray, quantisation: Quantisation) -> bool:
    """True if the first values of a tensor are on their grid, up to float32's precision."""
    index = np.unravel_index(np.arange(min(array.size, _LOOKED_AT)), array.shape)
    step, zero_point = (
        np.broadcast_to(parameter, array.shape)[index]
        for parameter in (quantisation.step, quantisation.zero_point)
    )
    units = array[index] / step + zero_point
    off = np.abs(units - np.rint(units))
    return not (off > _OFF_GRID + 1e-6 * np.abs(units)).any()


def _other_modes(model: ir.Model) -> list[str]:
    """The rounding modes, other than to nearest even, of quantisers on maps."""
    found = {
        str(dialect.rounding_of(node))
        for node in model.graph
        if dialect.is_quantize(node)
        and not is_constant(node.inputs[0])
        and provenance.location(node).op in _QUANTISERS
    }
    return sorted(found - {str(Rounding.HALF_EVEN)})
