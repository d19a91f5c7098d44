"""What a converted file says of its maps, as numbers: steps, ranges, errors, and what is fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlaconv.driver.pixels import pixels_in

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.ir.layers import Map, Network
    from dlaconv.ir.rounding import Rounding

Facts = Mapping[str, Mapping[str, Any]]
"""What is known of each map by name, see `dlaconv.ir.scales.facts.map_facts`."""


def quantise_inputs(
    network: Network, feeds: Mapping[str, np.ndarray], facts: Facts, rounding: Rounding
) -> dict[str, np.ndarray]:
    """The integers that the host feeds: ``round(x / real step)`` of floats, integers as given.

    Inputs that take pixels are given them, in any type. Floats are clipped where the source clips
    them, see `fed_range`. Where the source begins with a sign, the host takes it.
    """
    import numpy as np

    from dlaconv.ir.rounding import round_array

    found = {}
    pixels = pixels_in(facts)
    for stored in network.inputs:
        values = feeds[stored.name]
        if stored.name in pixels:
            values = pixels[stored.name].fed(stored.name, values)
        if values.dtype.kind == "f":
            step = real_step(facts, stored)
            low, high = fed_range(facts, stored)
            if facts.get(stored.name, {}).get("sign") is True:
                values = np.where(values >= 0, high, low)
            else:
                values = round_array(values.astype(np.float64) / step, rounding)
                values = np.clip(values, low, high)
        found[stored.name] = np.clip(values, stored.qmin, stored.qmax).astype(np.int64)
    return found


def fed_range(facts: Facts, stored: Map) -> tuple[int, int]:
    """Smallest and largest integer that the host feeds a graph input.

    The quantiser of the input is the host's, so its clip is too: an unsigned one has no negative
    integers, whatever the hardware can hold.
    """
    clip = clip_of(facts.get(stored.name, {}))
    if clip is None:
        return stored.qmin, stored.qmax
    low, high = (round(end) for end in clip)
    return max(stored.qmin, min(low, stored.qmax)), min(stored.qmax, max(high, stored.qmin))


def real_step(facts: Facts, stored: Map) -> float:
    """Real value of one unit of a map; the hardware's step where nothing else is known."""
    return float(facts.get(stored.name, {}).get("real_step", stored.step))


def real_range(stored: Map, facts: Facts) -> tuple[float, float]:
    """Real range of a graph input: the source's, or the hardware's where that is not known."""
    low, high = facts.get(stored.name, {}).get("clip") or (
        stored.qmin * real_step(facts, stored),
        stored.qmax * real_step(facts, stored),
    )
    return float(low), float(high)


def channel_ratios(fact: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """What the source's values of a map are multiplied by, to broadcast against the map.

    Ones unless the source has a step per channel there; what does not fit the shape is ignored.
    """
    import numpy as np

    given = fact.get("channel_ratios", {})
    axis, listed = given.get("axis"), given.get("ratios", [])
    if axis not in range(len(shape)) or shape[axis] != len(listed):
        return np.ones(())
    found: np.ndarray = np.array(listed, np.float64)
    return found.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def clip_of(fact: Mapping[str, Any]) -> tuple[float, float] | None:
    """The ends at which the source clips a map, in units; None where it does not."""
    clip = fact.get("clip")
    if clip is None:
        return None
    low, high = (float(end) / float(fact["real_step"]) for end in clip)
    return low, high


def gain_error(fact: Mapping[str, Any], facts: Facts, network: Network) -> float:
    """Units that a sum of maps may be off because its gains are, over the range of its operands."""
    total = 0.0
    for name, error in fact.get("gain_errors", {}).items():
        stored = network.maps.get(name)
        if stored is not None:
            ends = (stored.qmin, stored.qmax, *(clip_of(facts.get(name, {})) or ()))
            total += abs(float(error)) * max(map(abs, ends))
    return total


def rounding_error(mode: object) -> float:
    """Largest error of a rounding mode in steps; what is unknown rounds to nearest."""
    from dlaconv.ir.rounding import Rounding

    directed = [known for known in Rounding if not known.nearest]
    return 1.0 if mode in directed else 0.5
