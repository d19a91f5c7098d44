"""The slow, obvious evaluation of a network that the simulator is proven equal to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlaconv.backends.access.semantics.layer import ActivationOrder, evaluate
from dlaconv.ir.layers import Network
from dlaconv.ir.rounding import Rounding


def run_reference(
    network: Network,
    inputs: Mapping[str, np.ndarray],
    *,
    rounding: Rounding = Rounding.HALF_EVEN,
    activation_order: ActivationOrder = "mac",
) -> dict[str, np.ndarray]:
    """The integers of every map, computed layer by layer in integers and exact rationals.

    Args:
        network: the layers.
        inputs: integers of the graph inputs by name, in range.
        rounding: how an exact result becomes an integer.
        activation_order: see `dlaconv.backends.access.semantics.layer.ActivationOrder`.

    Returns:
        int64 arrays by map name, graph inputs included.

    Raises:
        ConversionError: if an accumulator leaves 32 bits.
    """
    maps = {source.name: np.asarray(inputs[source.name], np.int64) for source in network.inputs}
    for layer in network.layers:
        maps[layer.output.name] = evaluate(
            layer,
            [maps[source.name] for source in layer.inputs],
            rounding=rounding,
            activation_order=activation_order,
        )
    return maps
