"""Where files keep the widths of HGQ2's quantisers.

A ``.keras`` file counts them: ``<layer>/iq/quantizer/vars/0``, and within a layer that reads
several tensors ``<layer>/iq/quantizers/quantizer_1/quantizer/vars/0``. A ``.h5`` file names them:
``<layer>/<layer>_iq/fixed_point_quantizer_kif_3/i``, and
``<layer>/multiple_quantizers/quantizer_7/fixed_point_quantizer_kif_5/i``. There the numbers grow
over the whole model, in the order in which quantisers were made.
"""

from __future__ import annotations

import re

from dlaconv.frontends.keras.building import KerasLayer
from dlaconv.frontends.keras.hdf5 import StoredArray

_NUMBER = re.compile(r"(?:_(\d+))?$")
_SEVERAL = "multiple_quantizers"


def variables(
    layer: KerasLayer, role: str, place: tuple[int, int] | None, order: tuple[str, ...]
) -> list[StoredArray | None]:
    """The variables of a quantiser, each None if the file does not have it.

    Args:
        layer: whose quantiser it is.
        role: ``iq``, ``kq``, ``bq``, ``oq``; empty if the layer is the quantiser itself.
        place: of a layer that reads several tensors: how many quantisers are before it, and how
            many of them have variables.
        order: names of the variables in the order in which a ``.keras`` file counts them.
    """
    stored = layer.graph.stored
    if stored.counts:
        path = [role] if role else []
        if place is not None:
            index = place[0]
            path += ["quantizers", f"quantizer_{index}" if index else "quantizer"]
        return [
            stored.at(layer.layer, *path, "quantizer", "vars", str(n)) for n in range(len(order))
        ]
    held = stored.within(layer.layer)
    objects = {path[:-2] for path in held if len(path) > 1}
    chosen: list[tuple[str, ...]]
    if place is not None:
        index = place[1]
        chosen = [path for path in objects if path[:1] and path[0].startswith(_SEVERAL)]
        chosen = sorted(chosen, key=lambda path: _number(path[-1]))[index : index + 1]
    else:
        wanted = [f"{layer.layer.name}_{role}"] if role else []
        chosen = [path for path in objects if [*path] == wanted]
    own = {path[-1]: array for path, array in held.items() if path[:-2] in chosen}
    return [own.get(name) for name in order]


def _number(name: str) -> int:
    """What a name of Keras counts with; the first one has no number."""
    found = _NUMBER.search(name)
    return int(found[1]) if found is not None and found[1] else 0
