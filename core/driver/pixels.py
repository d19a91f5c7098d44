"""What ``--fold-preprocess`` makes of the inputs of a network, and of what they are fed with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics
from dlaconv.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.driver.cutting import CutNetwork
    from dlaconv.driver.verification import Facts
    from dlaconv.ir.pixels import Pixels
    from dlaconv.options import Options

KEY = "pixels"
"""What the map table of a file calls what a graph input takes."""


def folded_pixels(options: Options, model: ir.Model) -> dict[str, Pixels]:
    """What each graph input takes once preprocessing is folded; empty unless that is asked for.

    Args:
        options: what is done to pictures, and whether maps have a sign.
        model: the network as its source has it.

    Raises:
        UsageError: if it is not known what is done to pixels.
    """
    from dlaconv.driver.reading import input_shapes, load_target
    from dlaconv.ir.pixels import CENTRE, Pixels, begins_with_arithmetic

    if not options.fold_preprocess:
        return {}
    inputs = [value for value in model.graph.inputs if value.uses()]
    shapes = input_shapes(model, options.shapes)
    if len(inputs) != 1:
        raise _unknown(f"the network has {len(inputs)} graph inputs that are read")
    name, shape = inputs[0].name or "", shapes[inputs[0].name or ""]
    how = options.images
    if not how.says_values and not begins_with_arithmetic(inputs[0]):
        raise _unknown(
            f"nothing says what is done to the pixels of graph input {name!r}, and the network "
            "does not begin by scaling and shifting them"
        )
    if shape is None:
        raise _unknown(f"graph input {name!r} has no shape")
    axis = how.channel_axis(shape)
    channels = shape[axis] if axis is not None else 1
    if channels is None:
        raise _unknown(f"graph input {name!r} has an unknown number of channels")
    try:
        factors, offsets = how.affine(channels)
    except ValueError as error:
        raise _unknown(f"graph input {name!r} {error}") from None
    reverse = how.with_preset().bgr and channels > 1
    target = load_target(options.target, unsigned_maps=options.unsigned_maps)
    alike = axis is None or (len(factors) == 1 and not reverse)
    zero = CENTRE if target.signed_maps else 0
    return {name: Pixels(zero, factors, offsets, None if alike else axis, reverse)}


def _unknown(why: str) -> UsageError:
    return UsageError(
        Diagnostic(
            "DLA339",
            "unknown-preprocessing",
            f"--fold-preprocess cannot be done: {why}",
            help="say what is done to pixels of 0 to 255 with --preset, or --scale, --mean and "
            "--std; --preset raw where the network takes them as they are",
        )
    )


def pixels_in(*facts: Facts) -> dict[str, Pixels]:
    """What the graph inputs of converted files take, by name."""
    from dlaconv.ir.pixels import Pixels

    return {
        name: Pixels.from_json(fact[KEY])
        for known in facts
        for name, fact in known.items()
        if KEY in fact
    }


def let_take_pixels(model: ir.Model, facts: Iterable[Facts]) -> None:
    """Makes the source of converted files take what they take."""
    from dlaconv.ir.pixels import let_take_pixels as let_take

    let_take(model, pixels_in(*facts))


def require_accelerator(network: CutNetwork, pixels: Mapping[str, Pixels]) -> None:
    """Sees to it that the accelerator takes the pixels.

    Raises:
        ConversionError: if a part of the host does.
    """
    found = Diagnostics()
    for part in network.parts:
        read = [value.name for value in part.model.graph.inputs if value.name in pixels]
        if part not in network.accelerator and read:
            found.error(
                "DLA337",
                "inexact-fold",
                f"preprocessing cannot be folded: the host runs the first layer, which reads "
                f"{read[0]!r}",
                help="drop --fold-preprocess, and let the host prepare what it reads",
            )
    if found.errors:
        raise ConversionError(found)


def as_words(how: Mapping[str, Any], port: Mapping[str, Any]) -> str:
    """What the host does with pixels for a graph input of the report."""
    less = f" - {how['zero']}" if how["zero"] else ""
    axis = 3 if port["layout"] == "NHWC" else 1
    colours = len(port["shape"]) == 4 and port["shape"][axis] == 3
    return f"{port['dtype']} = pixel{less}, of 0..255{', red first' if colours else ''}"
