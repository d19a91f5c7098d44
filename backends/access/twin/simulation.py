"""The bit-true simulation as a file: real values in, real values out, integers inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from dlaconv.backends.access.engine.builder import Builder
from dlaconv.backends.access.engine.network import assemble
from dlaconv.backends.access.engine.requantise import Ending
from dlaconv.backends.access.engine.rounding import emit_rounding
from dlaconv.backends.access.semantics.layer import ActivationOrder
from dlaconv.backends.access.twin.ports import INTEGERS, Port
from dlaconv.ir.graph import drop_unread
from dlaconv.ir.layers import Map, Network
from dlaconv.ir.pixels import TO_FIRST
from dlaconv.ir.rounding import Rounding


def simulation(
    network: Network,
    ports: Mapping[str, Port],
    *,
    rounding: Rounding = Rounding.HALF_EVEN,
    activation_order: ActivationOrder = "mac",
) -> ir.Model:
    """Makes the graph of a simulation that starts and ends with the source's real values.

    It differs from `dlaconv.backends.access.simulator.Simulator.graph` at its ends only, where it
    does what the host does, in double precision.

    Args:
        network: the layers.
        ports: graph inputs and outputs by name, as in the source.
        rounding: how an exact result becomes an integer, the host's too.
        activation_order: as in the simulator.

    Returns:
        A float32 model of standard operators. The integers of a map have the map's name, those of
        graph inputs and outputs ``<name>/integers``.

    Raises:
        ConversionError: naming a layer that double precision cannot evaluate exactly.
    """

    def enter(build: Builder, stored: Map) -> ir.Value:
        return _fed(build, stored, ports[stored.name], rounding)

    engine = assemble(network, Ending(rounding, activation_order), enter=enter)
    build = engine.build
    outputs = []
    for name, stored in network.outputs:
        build.layer = name
        integers = engine.values[stored.name]
        integers.name = f"{stored.name}{INTEGERS}"
        step = build.constant(ports[name].real_step, double=True)
        real = build.to_single(build.op("Mul", build.to_double(integers), step))
        outputs.append(build.publish(real, replace(stored, name=name)))
    model = build.model(outputs)
    drop_unread(model.graph)
    model.metadata_props["dlaconv.rounding"] = str(rounding)
    model.metadata_props["dlaconv.activation_order"] = activation_order
    return model


def _fed(build: Builder, stored: Map, port: Port, rounding: Rounding) -> ir.Value:
    """What the host makes of a real input: clip(round(x / step)), or its sign."""
    build.layer = stored.name
    shape = port.taken(stored.shape)
    x = build.input(stored.name, shape)
    if port.sign:
        ends = [build.constant(end) for end in (port.high, port.low)]
        integers = build.op("Where", build.op("GreaterOrEqual", x, build.constant(0)), *ends)
    else:
        step = build.constant(port.real_step, double=True)
        real = build.to_double(x)
        if port.zero:
            real = build.op("Sub", real, build.constant(port.zero, double=True))
        units = build.op("Div", real, step)
        rounded = emit_rounding(build, units, rounding, double=True, add_half=False)
        ends = [build.constant(end, double=True) for end in (port.low, port.high)]
        integers = build.to_single(build.op("Clip", rounded, *ends))
    if port.border is not None:
        pads = build.tensor(port.pads(len(shape)))
        integers = build.op("Pad", integers, pads, build.constant(port.border[1]))
    if port.turn:
        integers = build.op("Transpose", integers, perm=TO_FIRST)
    return build.publish(integers, replace(stored, name=f"{stored.name}{INTEGERS}"))
