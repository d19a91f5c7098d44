"""Operations that take parts of tensors and put them together: slices, splits, stacks, pads.

They count axes with the batch. Slices are data, not code: ``{"start": 1, "stop": null, "step": 2}``
stands for ``1::2``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import arranging, pooling
from dlaconv.frontends.keras.building import Handler, KerasLayer, Shape, shape_of
from dlaconv.frontends.keras.windows import known

_ALL = slice(None)
_ELLIPSIS = "..."
_MOST = 1 << 16


def item(layer: KerasLayer) -> list[ir.Value]:
    """``x[1:, ::2, 0]``: GetItem of Keras 3, SlicingOpLambda of Keras 2."""
    x = layer.inputs[0]
    shape = shape_of(x)
    given = layer.argument(1, "key", "slice_spec")
    parts = [_part(layer, part) for part in (given if isinstance(given, list) else [given])]
    counted = sum(part is not None and part != _ELLIPSIS for part in parts)
    rest = len(shape) - counted
    if rest < 0 or parts.count(_ELLIPSIS) > 1:
        layer.refuse(f"takes {str(given)[:60]} of {list(shape)}")
    at = parts.index(_ELLIPSIS) if _ELLIPSIS in parts else len(parts)
    parts[at : at + 1] = [_ALL] * rest
    if parts[0] != _ALL:
        layer.no_form("a part of the batch")
    taken: list[slice] = [_ALL]
    result: list[int | None] = [shape[0]]
    for part in parts[1:]:
        if part is None:
            result.append(1)
            continue
        [size] = known(layer, (shape[len(taken)],))
        if type(part) is int:
            if not -size <= part < size:
                layer.refuse(f"takes element {part} of {size}")
            taken.append(slice(part % size, part % size + 1))
            continue
        count = len(range(*part.indices(size)))
        if count < 1:
            layer.refuse(f"takes nothing of {size} elements")
        taken.append(part)
        result.append(count)
    return [layer.reshaped(_sliced(layer, x, taken), tuple(result))]


def _part(layer: KerasLayer, part: Any) -> Any:
    """An index as JSON has it: a slice, an integer, None for a new axis, or the ellipsis."""
    if part is None or type(part) is int:
        return part
    if isinstance(part, Mapping):
        if part.get("class_name") == "__ellipsis__":
            return _ELLIPSIS
        inner = part.get("config", part)
        numbers = [
            inner.get(n) if isinstance(inner, Mapping) else "" for n in ("start", "stop", "step")
        ]
        if all(n is None or type(n) is int for n in numbers) and numbers[2] != 0:
            start, stop, step = numbers
            return slice(start or None, stop) if step in {None, 1} else slice(start, stop, step)
    return layer.refuse(f"takes {str(part)[:60]}")


def _sliced(layer: KerasLayer, x: ir.Value, parts: list[slice]) -> ir.Value:
    """A slice of each axis."""
    shape = shape_of(x)
    rows, result = [], list(shape)
    for axis, part in enumerate(parts):
        if part == _ALL:
            continue
        [size] = known(layer, (shape[axis],))
        start, stop, step = part.indices(size)
        result[axis] = len(range(start, stop, step))
        rows.append((start, stop if stop >= 0 else -size - 1, axis, step))
    if not rows:
        return x
    names = ("starts", "ends", "axes", "steps")
    given = [np.asarray(row, np.int64) for row in zip(*rows, strict=True)]
    constants = [layer.constant(name, row) for name, row in zip(names, given, strict=True)]
    return layer.op("Slice", [x, *constants], result)


def split(layer: KerasLayer) -> list[ir.Value]:
    """Split: into equal parts, behind given elements (Keras), or into given sizes (TensorFlow)."""
    x = layer.inputs[0]
    axis = layer.axis(layer.argument(2, "axis", default=0), len(shape_of(x)))
    [size] = known(layer, (shape_of(x)[axis],)) if axis else [0]
    cuts = layer.argument(1, "indices_or_sections", "num_or_size_splits")
    if type(cuts) is int and cuts > 0 and size % cuts == 0:
        ends = [size // cuts * (index + 1) for index in range(cuts)]
    elif isinstance(cuts, list) and all(type(cut) is int and 0 < cut <= size for cut in cuts):
        ends = [*cuts, size] if layer.layer.is_operation else np.cumsum(cuts).tolist()
    else:
        ends = []
    pairs = list(pairwise([0, *ends]))
    if not axis or not pairs or ends[-1] != size or any(a >= b for a, b in pairs):
        layer.refuse(f"splits {size} elements of axis {axis} at {str(cuts)[:60]}")
    return [_sliced(layer, x, [_ALL] * axis + [slice(a, b)]) for a, b in pairs]


def unstack(layer: KerasLayer) -> list[ir.Value]:
    """Unstack: every element of an axis, without the axis."""
    x = layer.inputs[0]
    shape = shape_of(x)
    axis = layer.axis(layer.argument(2, "axis", default=0), len(shape))
    if axis == 0:
        layer.no_form("a part of the batch")
    [size] = known(layer, (shape[axis],))
    if size > _MOST:
        layer.refuse(f"unstacks {size} elements")
    left: Shape = (*shape[:axis], *shape[axis + 1 :])
    parts = [_sliced(layer, x, [_ALL] * axis + [slice(n, n + 1)]) for n in range(size)]
    return [layer.reshaped(part, left) for part in parts]


def stack(layer: KerasLayer) -> list[ir.Value]:
    """Stack: tensors of one shape along a new axis."""
    shape = shape_of(layer.inputs[0])
    axis = layer.axis(layer.argument(1, "axis", default=0), len(shape) + 1)
    if axis == 0 or any(shape_of(value) != shape for value in layer.inputs):
        layer.refuse(f"stacks {[list(shape_of(v)) for v in layer.inputs]} along axis {axis}")
    long = [layer.reshaped(v, (*shape[:axis], 1, *shape[axis:])) for v in layer.inputs]
    result = (*shape[:axis], len(long), *shape[axis:])
    return [layer.op("Concat", long, result, {"axis": axis})]


def pad(layer: KerasLayer) -> list[ir.Value]:
    """Pad: with a constant, or with elements mirrored without the outermost one."""
    x = layer.inputs[0]
    shape = shape_of(x)
    widths = layer.argument(1, "pad_width", "paddings")
    mode = str(layer.argument(2, "mode", default="constant")).lower()
    value = layer.argument(3, "constant_values", default=0)
    rows = widths if isinstance(widths, list) else []
    right = len(rows) == len(shape) and all(
        isinstance(row, list)
        and len(row) == 2
        and all(type(size) is int and 0 <= size <= _MOST for size in row)
        for row in rows
    )
    if not right or rows[0] != [0, 0]:
        layer.refuse(f"pads {list(shape)} by {str(widths)[:60]}")
    number = isinstance(value, (int, float)) and math.isfinite(value)
    if mode not in {"constant", "reflect"} or not number:
        layer.no_form(f"a Pad in mode {mode!r} with {str(value)[:60]}")
    sizes = known(layer, shape[1:])
    result = [size + sum(row) for size, row in zip(sizes, rows[1:], strict=True)]
    pads = [row[end] for end in (0, 1) for row in rows]
    inputs = [x, layer.constant("pads", np.asarray(pads, np.int64))]
    if mode == "constant" and value:
        inputs.append(layer.constant("value", np.float32(value)))
    return [layer.op("Pad", inputs, (shape[0], *result), {"mode": mode})]


def tile(layer: KerasLayer) -> list[ir.Value]:
    """Tile: the whole tensor again and again along axes."""
    x = layer.inputs[0]
    shape = shape_of(x)
    repeats = layer.argument(1, "repeats", "multiples")
    counts = repeats if isinstance(repeats, list) else []
    if (
        len(counts) != len(shape)
        or not all(type(n) is int and 1 <= n <= _MOST for n in counts)
        or counts[0] != 1
    ):
        layer.refuse(f"repeats {list(shape)} {str(repeats)[:60]} times")
    result = [n * size for n, size in zip(counts[1:], known(layer, shape[1:]), strict=True)]
    given = layer.constant("repeats", np.asarray(counts, np.int64))
    return [layer.op("Tile", [x, given], (shape[0], *result))]


def swap_axes(layer: KerasLayer) -> list[ir.Value]:
    """Swapaxes."""
    rank = len(shape_of(layer.inputs[0]))
    pair = [layer.axis(layer.argument(n, f"axis{n}"), rank) for n in (1, 2)]
    order = [*range(rank)]
    order[pair[0]], order[pair[1]] = pair[1], pair[0]
    return [_reordered(layer, order)]


def move_axis(layer: KerasLayer) -> list[ir.Value]:
    """Moveaxis."""
    rank = len(shape_of(layer.inputs[0]))
    given = [layer.argument(n, name) for n, name in ((1, "source"), (2, "destination"))]
    lists = [value if isinstance(value, list) else [value] for value in given]
    sources, targets = ([layer.axis(axis, rank) for axis in axes] for axes in lists)
    if len(sources) != len(targets) or len({*sources}) != len({*targets}) or not sources:
        layer.refuse(f"moves axes {given[0]!r} to {given[1]!r}")
    order = [axis for axis in range(rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return [_reordered(layer, order)]


def _reordered(layer: KerasLayer, order: list[int]) -> ir.Value:
    if order[0] != 0:
        layer.no_form("the batch in another place")
    return layer.transposed(layer.inputs[0], order)


def blocks(op_type: str) -> Handler:
    """The handler of DepthToSpace or SpaceToDepth: the depth counts blocks first, as in TF."""

    def handler(layer: KerasLayer) -> list[ir.Value]:
        if layer.keywords.get("data_format") not in {None, "NHWC", "channels_last"}:
            layer.no_form(f"data_format {layer.keywords['data_format']!r}")
        size = layer.argument(1, "block_size")
        x = layer.channels_first(layer.inputs[0])
        shape = shape_of(x)
        if type(size) is not int or not 1 <= size <= _MOST or len(shape) != 4:
            layer.refuse(f"blocks of {size!r} on {list(shape)}")
        channels, height, width = known(layer, shape[1:])
        if op_type == "DepthToSpace":
            fits = channels % size**2 == 0
            result = (shape[0], channels // size**2, height * size, width * size)
        else:
            fits = height % size == 0 and width % size == 0
            result = (shape[0], channels * size**2, height // size, width // size)
        if not fits:
            layer.refuse(f"blocks of {size} on {list(shape)}")
        return [layer.own_order(layer.op(op_type, [x], result, {"blocksize": size}))]

    handler.__doc__ = f"{op_type}."
    return handler


def pool(handler: Handler) -> Handler:
    """The handler of a pool of TensorFlow, whose windows are arguments."""

    def adapted(layer: KerasLayer) -> list[ir.Value]:
        if layer.keywords.get("data_format") not in {None, "NHWC"}:
            layer.no_form(f"data_format {layer.keywords['data_format']!r}")
        names = {"pool_size": (1, "ksize"), "strides": (2, "strides"), "padding": (3, "padding")}
        found: dict[str, Any] = {}
        for name, (position, other) in names.items():
            value = layer.argument(position, other)
            whole = isinstance(value, list) and len(value) == 4 and value[0] == value[3] == 1
            found[name] = value[1:3] if whole else value
        return handler(replace(layer, overrides=found))

    adapted.__doc__ = handler.__doc__
    return adapted


def resize(layer: KerasLayer) -> list[ir.Value]:
    """Resize of pictures by whole factors, which is what UpSampling2D does."""
    shape = shape_of(layer.inputs[0])
    size = layer.argument(1, "size")
    method = layer.argument(2, "interpolation", "method", default="bilinear")
    others = ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "preserve_aspect_ratio")
    if len(shape) != 4 or any(layer.argument(9, name) for name in others):
        layer.no_form(f"a Resize of {list(shape)} that keeps its aspect ratio")
    sizes = known(layer, shape[1:3] if layer.channels_last else shape[2:])
    targets = size if isinstance(size, list) and len(size) == 2 else [size]
    if not all(type(n) is int for n in targets) or any(
        n < old or n % old for n, old in zip(targets, sizes, strict=False)
    ):
        layer.no_form(f"a Resize of {sizes} to {size}", remedy="use UpSampling2D")
    factors = [n // old for n, old in zip(targets, sizes, strict=False)]
    given = {"size": factors, "interpolation": method}
    return arranging.up_sampling(replace(layer, overrides=given))


MAXIMUM, MEAN = pool(pooling.maximum), pool(pooling.average)
