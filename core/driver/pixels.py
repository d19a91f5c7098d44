"""What ``--fold-preprocess`` makes of the inputs of a network, and of what they are fed with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Severity
from dlaconv.errors import ConversionError, UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.arrays import Shape
    from dlaconv.driver.cutting import CutNetwork
    from dlaconv.driver.facts import Facts
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.layers import Network
    from dlaconv.ir.pixels import Pixels
    from dlaconv.options import Options

_LOOKED_AT = 8
"""Samples that tell whether they are pixels."""
_PICTURE_RANK = 4
_WHOLE = 1e-4
"""Of a pixel: what lies nearer to a whole number is one."""
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
    from dlaconv.ir.calibration.samples import quantised_range
    from dlaconv.ir.pixel_graphs import begins_with_arithmetic, begins_with_turn
    from dlaconv.ir.pixels import CENTRE, LARGEST, Pixels

    if not options.fold_preprocess:
        if options.border_channel:
            raise _conflict()
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
    low, high = target.map_range
    if high - low < LARGEST:
        raise _unknown(f"maps of {target.name} hold {low} to {high}, and no bytes")
    if options.border_channel and axis is None:
        raise _unknown(f"graph input {name!r} takes no pictures that could have a border")
    alike = axis is None or (len(factors) == 1 and not reverse and not options.border_channel)
    zero = CENTRE if target.signed_maps else 0
    turn = axis == len(shape) - 1 and begins_with_turn(inputs[0])
    found = Pixels(zero, factors, offsets, None if alike else axis, reverse, turn=turn)
    if options.border_channel:
        quantised = quantised_range(inputs[0]) is not None
        border, further = _border(found, channels, known=how.says_values, quantised=quantised)
        found = replace(found, border=border, further=further)
    return {name: found}


def unfolded(samples: Dataset, options: Options, model: ir.Model) -> Iterator[Diagnostic]:
    """Tells of graph inputs that take pixels as they are, and would lose a bit of them.

    Args:
        samples: what the source is fed with.
        options: whether preprocessing is folded, and whether maps have a sign.
        model: the network as its source has it.
    """
    from dlaconv.driver.reading import load_target
    from dlaconv.ir.calibration.samples import quantised_range
    from dlaconv.ir.pixels import LARGEST

    target = load_target(options.target, unsigned_maps=options.unsigned_maps)
    if options.fold_preprocess or not target.signed_maps:
        return
    read = [value for value in model.graph.inputs if value.uses()]
    pictures = {
        value.name: list[float]()
        for value in read
        if len(value.shape or ()) == _PICTURE_RANK and quantised_range(value) is None
    }
    for feeds in samples.first(_LOOKED_AT):
        for name in [*pictures]:
            array = feeds[name or ""]
            if (array != array.round()).any() or array.min() < 0 or array.max() > LARGEST:
                del pictures[name]
            else:
                pictures[name].append(float(array.max()))
    for name, largest in pictures.items():
        if max(largest, default=0.0) > target.map_range[1]:
            yield Diagnostic(
                "DLA345",
                "unfolded-pixels",
                f"the samples of graph input {name!r} are pixels of 0..{max(largest):.0f}; a map "
                f"with a sign holds {target.map_range[1]}, so the lowest bit is lost",
                Severity.WARNING,
                help="--fold-preprocess --preset raw lets the network take pixels minus 128, with "
                "--border-channel where its first layer pads; feed the same pixels",
                notes=("maps of the hardware have 8 bits with a sign",),
            )


def _border(how: Pixels, channels: int, *, known: bool, quantised: bool) -> tuple[int, int]:
    """The constant of further channels, and how many there are.

    One channel with the smallest constant with which its weights are never larger than all others:
    errors of rounding them are multiplied by it. The largest one where the network itself shifts
    pixels. Where the source is quantised, and its zeros stand for a whole pixel, the difference to
    the hardware's, once for each channel: weights are the source's then.
    """
    from dlaconv.ir.pixels import LARGEST

    largest = LARGEST - how.zero
    if not known or 0 in how.factors:
        return largest, 1
    counts = len(how.factors), len(how.offsets)
    pairs = zip(
        how.factors * (channels // counts[0]), how.offsets * (channels // counts[1]), strict=True
    )
    shifts = [how.zero + offset / factor for factor, offset in pairs]
    whole = round(shifts[0])
    same = all(abs(shift - whole) < _WHOLE for shift in shifts)
    if quantised and same and whole and -how.zero <= whole <= largest:
        return whole, channels
    return min(max(math.ceil(sum(map(abs, shifts))), 1), largest), 1


def _conflict() -> UsageError:
    return UsageError(
        Diagnostic(
            "DLA423",
            "options-conflict",
            "--border-channel is of no use without --fold-preprocess",
            help="give both, or drop it",
        )
    )


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


def picture_shapes(network: Network, facts: Facts) -> dict[str, tuple[int, ...]]:
    """Shapes of what the graph inputs of a converted file are given."""
    pixels = pixels_in(facts)
    found = {}
    for stored in network.inputs:
        found[stored.name] = stored.shape
        if (how := pixels.get(stored.name)) is not None:
            if (how.turn and len(stored.shape) == 4) or not how.turn:
                found[stored.name] = how.picture(stored.shape)
            if not how.fits(found[stored.name]) or how.stored(found[stored.name]) != stored.shape:
                raise _contradiction(stored.name)
    return found


def _contradiction(name: str) -> ConversionError:
    return ConversionError(
        Diagnostic(
            "DLA305",
            "not-runnable",
            f"what the file says of the pixels of graph input {name!r} does not fit its shape",
            help="convert the network again",
        )
    )


def random_pixels(
    pixels: Mapping[str, Pixels],
    shapes: Mapping[str, Shape | None],
    options: Options,
    count: int,
) -> Dataset | None:
    """What the host feeds for random pictures; None if their size is not known.

    Args:
        pixels: the graph inputs, all of which take pixels.
        shapes: their shapes.
        options: has the seed.
        count: number of samples.
    """
    from dlaconv.ir.calibration.dataset import Stacked
    from dlaconv.ir.calibration.samples import random_inputs_of
    from dlaconv.ir.pixels import LARGEST, Fed

    sizes = {name: tuple(shapes[name] or (None, None))[1:] for name in pixels}
    if not pixels or any(None in size for size in sizes.values()):
        return None
    fixed = {name: (1, *(n or 1 for n in size)) for name, size in sizes.items()}
    ranges = dict.fromkeys(pixels, (0.0, float(LARGEST)))
    drawn = random_inputs_of(fixed, ranges, count, options.seed)
    return Fed(Stacked({name: array.round() for name, array in drawn.items()}), pixels)


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
    from dlaconv.ir.pixel_graphs import let_take_pixels as let_take

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
    channels = port["shape"][axis] if len(port["shape"]) == 4 else 0
    own, further = channels - how["further"], ""
    if how["further"]:
        listed = ", ".join(str(index) for index in range(own, channels))
        further = f"; {how['border']} in channel {listed}"
    order = ", red first" if own == 3 else ""
    return f"{port['dtype']} = pixel{less}, of 0..255{order}{further}"
