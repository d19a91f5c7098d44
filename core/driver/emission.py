"""Models that are written beside an ACCESS file: its QDQ twin, and its simulation as a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.driver.facts import fed_range, real_step
from dlaconv.driver.pixels import pixels_in

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.backends.access.twin.ports import Port
    from dlaconv.driver.facts import Facts
    from dlaconv.ir.layers import Network
    from dlaconv.ir.target import Target
    from dlaconv.options import Options

_ORIGIN = ("dlaconv.version", "dlaconv.source", "dlaconv.target")
"""Metadata of the ACCESS model that holds for what is made of it."""


def emitted(
    kind: str, access: ir.Model, network: Network, facts: Facts, target: Target, options: Options
) -> ir.Model:
    """Makes one further model of a conversion.

    Args:
        kind: one of `dlaconv.options.EMITTED`.
        access: the ACCESS model.
        network: the layers that it holds.
        facts: real step and range of each map.
        target: the hardware.
        options: how the hardware rounds, for the simulation.

    Raises:
        ConversionError: if the simulation is beyond double precision.
    """
    from dlaconv.backends.access.twin.qdq import qdq_twin
    from dlaconv.backends.access.twin.simulation import simulation
    from dlaconv.ir.rounding import Rounding

    if kind == "qdq":
        model = qdq_twin(access, target, ports(network, facts))
    else:
        model = simulation(
            network,
            ports(network, facts),
            rounding=Rounding(options.rounding),
            activation_order="after-clamp" if options.activation_order == "after-clamp" else "mac",
        )
    origin = {key: access.metadata_props[key] for key in _ORIGIN if key in access.metadata_props}
    model.metadata_props.update(origin)
    return model


def ports(network: Network, facts: Facts) -> dict[str, Port]:
    """What the host does with graph inputs and outputs, by their names in the source."""
    from dlaconv.backends.access.twin.ports import Port

    found = {
        name: Port(real_step(facts, stored), stored.qmin, stored.qmax)
        for name, stored in network.outputs
    }
    pixels = pixels_in(facts)
    for stored in network.inputs:
        sign = facts.get(stored.name, {}).get("sign") is True
        found[stored.name] = Port(real_step(facts, stored), *fed_range(facts, stored), sign)
        if (how := pixels.get(stored.name)) is not None:
            border = None
            if how.axis is not None and how.further:
                border = (how.axis, how.border, how.further)
            found[stored.name] = replace(
                found[stored.name], zero=how.zero, border=border, turn=how.turn
            )
    return found


def remarks(network: Network, options: Options) -> Iterator[Diagnostic]:
    """What a user must know about the models that will be written."""
    if "qdq" not in options.emit:
        return
    asked = []
    if options.rounding != "half-even":
        asked.append(f"--rounding {options.rounding}")
    sloped = any(
        layer.activation is not None and layer.slopes is not None for layer in network.layers
    )
    if options.activation_order == "after-clamp" and sloped:
        asked.append("--activation-order after-clamp")
    if asked:
        yield Diagnostic(
            "DLA905",
            "twin-semantics",
            f"the QDQ twin does not follow {' and '.join(asked)}: QuantizeLinear rounds half-even, "
            "and an activation stands before it",
            Severity.WARNING,
            help="compare integers with --emit sim or dlaconv run, which follow both",
            notes=("the twin's integers can be off by a unit wherever these choices matter",),
        )
