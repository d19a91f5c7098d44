"""Report rows of the scale stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.ir import provenance
from dlaconv.ir.overrides import Asked
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.records import Fidelity, TensorRecord
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.scales.cost import SAME, clip_range, is_exact, natural_step
from dlaconv.ir.scales.groups import MapVariable
from dlaconv.ir.scales.weights import LinearScaling, ScaledWeights

_INTEGRAL = 1e-3
"""A bias this near to an integer was one before float32 stored it."""
_HALF = 0.5 + 1e-3
"""Clips that are nearer than this, in units of the hardware, are one clip."""
_UNSHIFTED = (Rounding.HALF_UP, Rounding.FLOOR, Rounding.CEIL)
"""Modes that round x + z like x, for any integer z."""


def map_record(
    variable: MapVariable,
    step: float,
    gamma: float,
    limits: tuple[int, int],
    context: Context,
    model: ir.Model,
) -> TensorRecord:
    """The row of a feature map.

    Args:
        variable: the map.
        step: hardware step.
        gamma: hardware value over real value.
        limits: smallest and largest integer on the hardware.
        context: knows which maps are bounded for want of data.
        model: the model, for the place.
    """
    real = step / gamma
    source = variable.source
    fidelity, note = _fidelity(variable, real, limits)
    notes = [note]
    if not variable.derived:
        notes.append(_lost_clip(variable, real, limits))
    if fidelity is Fidelity.EXACT:
        alike, note = _rounds_alike(variable, context)
        notes.append(note)
        if not alike:
            fidelity = Fidelity.RESCALED
    if (reread := context.rereads.get(variable.name)) is not None:
        fidelity = Fidelity.CLIPPED if reread.clipped else Fidelity.REQUANTISED
        notes.append(
            f"the source quantises {reread.source}, the hardware its map, rounded to "
            f"{reread.stored}"
        )
    if (loss := provenance.loss(variable.node)) and not variable.derived:
        fidelity = Fidelity.REQUANTISED
        notes.append(loss)
    note = "; ".join(filter(None, notes))
    if variable.sign and not variable.derived and fidelity is Fidelity.EXACT:
        note = "a sign, +1 or -1"
    if (ratio := context.channel_ratios.get(variable.name)) is not None:
        ends = f"{real / float(ratio.max()):.6g} to {real / float(ratio.min()):.6g}"
        whose = "channels are equalised" if variable.derived else "a step per channel in the source"
        notes.insert(0, f"{whose}: one unit is worth {ends}")
        note = "; ".join(filter(None, notes))
    if variable.name in context.bounded:
        note = "the step is an interval bound; --calibrate makes it finer"
    if (asked := context.overrides.asked.get(variable.name)) is not None:
        note = f"{note}; it holds {limits[1] * real:.6g}, where {asked.text} is asked for"
    return TensorRecord(
        name=variable.name,
        kind="map",
        layer=provenance.location(variable.node, model).layer,
        fidelity=fidelity,
        source=None if variable.derived else source_row(source),
        target={
            "bits": context.target.map_bits,
            "signed": limits[0] < 0,
            "exponent": round(float(np.log2(step))),
            "step": step,
            "real_step": real,
        },
        note=note,
        override=None if asked is None else vars(asked),
    )


def _fidelity(variable: MapVariable, real: float, limits: tuple[int, int]) -> tuple[Fidelity, str]:
    source = variable.source
    if variable.derived:
        return Fidelity.DERIVED, _derived_note(variable, real, limits)
    if is_exact(source, real, limits):
        return Fidelity.EXACT, ""
    natural = natural_step(source, limits)
    if abs(real / source.scalar_step - 1) < SAME < natural / source.scalar_step - 1:
        return Fidelity.CLIPPED, f"the source's integers, as far as {limits[1]}"
    if real < source.scalar_step * (1 - SAME):
        return Fidelity.CLIPPED, f"finer step than the source's {source.scalar_step:.6g}"
    if abs(real / natural - 1) < SAME and source.symmetric:
        units = natural / source.scalar_step
        return Fidelity.RESCALED, f"{source.bits}-bit integers in units of {units:g}"
    return Fidelity.RESCALED, ""


def _derived_note(variable: MapVariable, real: float, limits: tuple[int, int]) -> str:
    note = "the source does not quantise this map"
    if variable.clip is None:
        return note
    high, reach = variable.clip[1], limits[1] * real
    if reach > high + real:
        return f"{note}; it clips at {high:.6g}, the hardware at {reach:.6g}"
    return f"{note}; its clip at {high:.6g} is the hardware's saturation at {reach:.6g}"


def _lost_clip(variable: MapVariable, real: float, limits: tuple[int, int]) -> str:
    """Says where the source clips if the hardware, whose range is wider there, does not.

    A clip at zero is not lost: it has become a ReLU. What the host feeds is clipped by the host.
    """
    source, value = variable.source, variable.node.inputs[0]
    if variable.sign or value is None or value.is_graph_input():
        return ""
    low, high = clip_range(source)
    unit = source.scalar_step / real
    if high * unit < limits[1] - _HALF or limits[0] + _HALF < low * unit != 0:
        return f"the source clips at [{low:g}, {high:g}] of its units, the hardware later"
    return ""


def _rounds_alike(variable: MapVariable, context: Context) -> tuple[bool, str]:
    """Whether both round to nearest, in one direction, or a bias makes up for it; what to know.

    The source adds its zero point z before it rounds, so that its mode is round(x/s + z) - z. That
    is the mode itself for any z where ties do not depend on parity or sign, and for an even z where
    they go to even.
    """
    source, hardware = variable.source.rounding, context.rounding
    zero = variable.source.qmin - clip_range(variable.source)[0]
    shifted = source not in _UNSHIFTED and bool(zero % 2 if source is Rounding.HALF_EVEN else zero)
    where = f" on a zero point of {zero:g}" if shifted else ""
    if source is hardware and not shifted:
        return True, ""
    if variable.name in context.compensated:
        return True, f"the source rounds with {source}{where}"
    note = f"the source rounds with {source}{where}, the hardware with {hardware}"
    if source.nearest and hardware.nearest:
        return not shifted, f"{note}: ties may differ"
    return False, note


def source_row(source: Quantisation) -> dict[str, Any]:
    """A source quantisation as JSON values."""
    return {
        "bits": source.bits,
        "signed": source.signed,
        "narrow": source.narrow,
        "qmin": source.qmin,
        "qmax": source.qmax,
        "step": float(source.step.reshape(-1)[0]),
        "zero_point": float(source.zero_point.reshape(-1)[0]),
        "rounding": str(source.rounding),
    }


def weight_record(
    node: ir.Node,
    layer: str,
    steps: np.ndarray | None,
    scaled: ScaledWeights,
    bits: int = 8,
    asked: Asked | None = None,
) -> TensorRecord:
    """The row of a layer's weights.

    Args:
        node: the layer on the hardware.
        layer: the layer of the source.
        steps: the source's, None where its weights are real numbers.
        scaled: what they became.
        bits: of the integers.
        asked: what the user asks of them.
    """
    changed = np.flatnonzero(scaled.requantised)
    note = ""
    if steps is None:
        fidelity = Fidelity.DERIVED
    elif changed.size:
        fidelity = Fidelity.REQUANTISED
        guarded = int(scaled.guarded.sum())
        note = f"{guarded} channels widened so that their bias fits 16 bits" if guarded else ""
    elif np.allclose(scaled.steps, scaled.ideal, rtol=SAME, atol=0):
        fidelity = Fidelity.EXACT
    else:
        fidelity = Fidelity.RESCALED
        worst = float(np.abs(scaled.steps / scaled.ideal - 1).max())
        note = f"integers kept, step rounded to the grid (at most {worst:.2%} off)"
    return TensorRecord(
        name=f"{node.name}/weights",
        kind="weight",
        layer=layer,
        fidelity=fidelity,
        source=None if steps is None else {"steps": steps.tolist()},
        target={
            "bits": bits,
            "steps": scaled.steps.tolist(),
            "ideal_steps": scaled.ideal.tolist(),
        },
        note=note if asked is None else f"rounded with {asked.text}",
        channels=tuple(int(channel) for channel in changed),
        override=None if asked is None else vars(asked),
    )


def bias_record(
    node: ir.Node, layer: str, scaled: ScaledWeights, scaling: LinearScaling
) -> TensorRecord:
    """The row of a layer's bias."""
    assert scaled.bias is not None
    assert scaled.bias_error is not None
    lost = np.abs(scaled.bias_error)
    clipped = np.flatnonzero(lost > 1)
    if clipped.size:
        fidelity, note = Fidelity.CLIPPED, f"{clipped.size} channels saturate at 16 bits"
    elif scaled.requantised.any():
        fidelity, note = Fidelity.REQUANTISED, ""
    elif float(lost.max(initial=0)) < _INTEGRAL:
        fidelity, note = Fidelity.EXACT, ""
    else:
        fidelity, note = Fidelity.RESCALED, "rounded to units of weight step times input step"
    return TensorRecord(
        name=f"{node.name}/bias",
        kind="bias",
        layer=layer,
        fidelity=fidelity,
        source=None,
        target={"bits": 16, "step_in": scaling.step_in},
        note=note,
        channels=tuple(int(channel) for channel in clipped),
    )
