"""The io contract: which integers the accelerator takes and returns, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlaconv.driver.facts import fed_range
from dlaconv.driver.pixels import KEY, as_words
from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.layout_names import TO_NCHW, TO_NHWC

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.driver.accelerator import AcceleratorPart
    from dlaconv.ir.layers import Layer, Map, Network

_IMAGE_RANK = 4


def fed_ports(part: AcceleratorPart, whole: ir.Model | None) -> list[dict[str, Any]]:
    """What the host feeds to a part, as rows of the report.

    Args:
        part: a part for the accelerator.
        whole: the network that it was cut from, None if it is the whole network.
    """
    return [
        _fed(stored, part.maps, _input_layout(stored, part.network), whole)
        for stored in part.network.inputs
    ]


def returned_ports(part: AcceleratorPart) -> list[dict[str, Any]]:
    """What the host reads from a part, as rows of the report."""
    return [
        _returned(name, stored, part.maps, _output_layout(stored, part.network))
        for name, stored in part.network.outputs
    ]


def _input_layout(stored: Map, network: Network) -> str:
    """NHWC if the network begins by turning the map into NCHW."""
    readers = [layer for layer in network.layers if stored in layer.inputs]
    turned = bool(readers) and all(_permutation(layer) == TO_NCHW for layer in readers)
    return _layout(stored, turned=turned)


def _output_layout(stored: Map, network: Network) -> str:
    """NHWC if the network ends by turning the map into NHWC."""
    makers = [layer for layer in network.layers if layer.output == stored]
    turned = bool(makers) and _permutation(makers[-1]) == TO_NHWC
    return _layout(stored, turned=turned)


def _layout(stored: Map, *, turned: bool) -> str:
    if len(stored.shape) != _IMAGE_RANK:
        return f"{len(stored.shape)}-D"
    return "NHWC" if turned else "NCHW"


def _permutation(layer: Layer) -> tuple[int, ...]:
    return ints_attribute(layer.node, "perm") if layer.op == "Transpose" else ()


def _fed(
    stored: Map, maps: Mapping[str, Mapping[str, Any]], layout: str, whole: ir.Model | None
) -> dict[str, Any]:
    low, high = fed_range(maps, stored)
    port = _port(stored.name, stored, maps, layout, low, high)
    fact, dtype = maps.get(stored.name, {}), port["dtype"]
    real = _rearranged(stored, port["real_step"], (low, high), whole)
    if (how := fact.get(KEY)) is not None:
        return port | {"feed": as_words(how, port), KEY: dict(how)}
    if fact.get("sign") is True:
        return port | {"feed": f"{dtype} = {high} if {real} >= 0 else {low}"}
    step = f"{port['real_step']:.9g}"
    return port | {"feed": f"{dtype} = clip(round({real} / {step}), {low}, {high})"}


def _returned(
    name: str, stored: Map, maps: Mapping[str, Mapping[str, Any]], layout: str
) -> dict[str, Any]:
    port = _port(name, stored, maps, layout, stored.qmin, stored.qmax)
    port["read"] = f"real = {port['dtype']} * {port['real_step']:.9g}"
    if (channels := maps.get(stored.name, {}).get("channels")) is not None:
        port["channels"] = channels
    return port


def _port(
    name: str,
    stored: Map,
    maps: Mapping[str, Mapping[str, Any]],
    layout: str,
    low: int,
    high: int,
) -> dict[str, Any]:
    return {
        "name": name,
        "layout": layout,
        "shape": list(stored.shape),
        "dtype": "int8" if stored.qmin < 0 else "uint8",
        "qmin": low,
        "qmax": high,
        "scale": float(stored.step),
        "real_step": float(maps.get(stored.name, {}).get("real_step", stored.step)),
    }


def _rearranged(stored: Map, step: float, ends: tuple[int, int], whole: ir.Model | None) -> str:
    """How the values of a part's input are made of a graph input of the network, as in numpy.

    ``x`` if the input is one itself, or if more is done than to rearrange values and to round them
    as the part does.
    """
    from dlaconv.ir import dialect
    from dlaconv.ir.graph import is_op, producer, shape_of
    from dlaconv.ir.partition import REARRANGING

    if whole is None:
        return "x"
    made = {value.name: value for node in whole.graph for value in node.outputs}
    value, steps = made.get(stored.name), []
    while value is not None and (node := producer(value)) is not None:
        if is_op(node, "Transpose"):
            steps.append(f".transpose{ints_attribute(node, 'perm')}")
        elif is_op(node, *REARRANGING):
            steps.append(f".reshape{shape_of(value)}")
        elif not (dialect.is_quantize(node) and _rounds_likewise(node, step, ends)):
            return "x"
        value = node.inputs[0]
    return f"{value.name}{''.join(reversed(steps))}" if value is not None and steps else "x"


def _rounds_likewise(node: ir.Node, step: float, ends: tuple[int, int]) -> bool:
    """True if a quantiser of the source makes the very integers that the host feeds."""
    from dlaconv.ir import dialect
    from dlaconv.ir.rounding import Rounding

    item = dialect.quantisation_of(node)
    return (
        item.rounding is Rounding.HALF_EVEN
        and item.step.size == 1
        and math.isclose(item.scalar_step, step, rel_tol=1e-6)
        and not item.zero_point.any()
        and item.qmin <= ends[0]
        and item.qmax >= ends[1]
    )
