"""The window of a convolution or pooling: kernel, strides, dilations and padding of a node."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, Unknown, input_of

Extents = tuple[int, ...]
"""One number per spatial axis: height and width of a 4-D map."""


def kernel(model: AccessModel, node: ir.Node) -> Extents:
    """Kernel extents, from the attribute or the weights; the whole map for global pooling.

    Raises:
        Malformed: if they are stated wrongly or not at all.
        Unknown: if they depend on a shape that is not known.
    """
    if node.op_type == "GlobalAveragePool":
        return map_size(model, node)
    stated = model.integers(node, "kernel_shape")
    if stated is None:
        shape = model.shape(input_of(node, 1)) if node.op_type == "Conv" else None
        if shape is None:
            raise Malformed("there is no kernel_shape")
        stated = _all_known(shape[2:], "the shape of the weights")
    return _positive("kernel_shape", stated)


def map_size(model: AccessModel, node: ir.Node) -> Extents:
    """Height and width of the map that a node reads.

    Raises:
        Unknown: if they are not known.
    """
    value = input_of(node, 0)
    shape = model.shape(value)
    name = value.name if value is not None else None
    if shape is None:
        raise Unknown(f"the shape of {name!r} is not known")
    return _all_known(shape[2:], f"the shape of {name!r}")


def strides(model: AccessModel, node: ir.Node) -> Extents:
    """Strides, 1 by default.

    Raises:
        Malformed: if the attribute has the wrong form.
        Unknown: as for `kernel`.
    """
    return _per_axis(model, node, "strides")


def dilations(model: AccessModel, node: ir.Node) -> Extents:
    """Dilations, 1 by default.

    Raises:
        Malformed: if the attribute has the wrong form.
        Unknown: as for `kernel`.
    """
    return _per_axis(model, node, "dilations")


def auto_pad(node: ir.Node) -> str:
    """The auto_pad attribute, NOTSET by default.

    Raises:
        Malformed: if it is none of the four words.
    """
    found = node.attributes.get("auto_pad")
    if found is None:
        return "NOTSET"
    word = found.value.decode(errors="replace") if isinstance(found.value, bytes) else found.value
    if word not in {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"}:
        raise Malformed(f"auto_pad {word!r} is unknown")
    return str(word)


def pads(model: AccessModel, node: ir.Node) -> tuple[Extents, Extents]:
    """Padding at the start (top, left) and at the end (bottom, right); auto_pad is resolved.

    Raises:
        Malformed: if the attribute has the wrong form.
        Unknown: if auto_pad depends on a shape that is not known.
    """
    word = auto_pad(node)
    extents = kernel(model, node)
    none = (0,) * len(extents)
    if word == "VALID":
        return none, none
    if word.startswith("SAME"):
        return _same(model, node, word)
    stated = model.integers(node, "pads")
    if stated is None:
        return none, none
    if len(stated) != 2 * len(extents):
        raise Malformed(f"pads {list(stated)} for {len(extents)} spatial axes")
    return stated[: len(extents)], stated[len(extents) :]


def _same(model: AccessModel, node: ir.Node, word: str) -> tuple[Extents, Extents]:
    total = [
        max((-(-size // stride) - 1) * stride + dilation * (extent - 1) + 1 - size, 0)
        for size, stride, dilation, extent in zip(
            map_size(model, node),
            strides(model, node),
            dilations(model, node),
            kernel(model, node),
            strict=False,  # a map of another rank is reported by CV-9
        )
    ]
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (small, large) if word == "SAME_UPPER" else (large, small)


def _per_axis(model: AccessModel, node: ir.Node, name: str) -> Extents:
    extents = kernel(model, node)
    stated = model.integers(node, name)
    if stated is None:
        return (1,) * len(extents)
    if len(stated) != len(extents):
        raise Malformed(f"{name} {list(stated)} for {len(extents)} spatial axes")
    return _positive(name, stated)


def _positive(name: str, stated: Extents) -> Extents:
    if not stated or min(stated) < 1:
        raise Malformed(f"{name} {list(stated)} is no list of positive integers")
    return stated


def _all_known(dims: tuple[int | None, ...], what: str) -> Extents:
    known = tuple(dim for dim in dims if dim is not None)
    if len(known) != len(dims):
        raise Unknown(f"{what} is not static")
    return known
