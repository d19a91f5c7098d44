"""IO-1, IO-2: the size of the network's input."""

from __future__ import annotations

from collections.abc import Iterator

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.wording import by, span, within
from dlaconv.diagnostics import Diagnostic


class InputChannels(Rule):
    """A graph input has more channels than the hardware can load.

    What it does: Checks axis 1 of every graph input. Unlike other maps an input need not have a
    multiple of 16 channels.

    Why it matters on the hardware: The guide limits what the compiler can load as an input; other
    maps have limits of their own.

    What to do: Split the input into several, or apply the first layer on the host.
    """

    id = "IO-1"
    name = "too-many-input-channels"
    clause = "A, Input: channels 1 to 512."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per graph input."""
        limits = model.target.input_channels
        for value in model.inputs:
            shape = model.shape(value) or ()
            channels = shape[1] if len(shape) > 1 else None
            if channels is not None and not within(channels, limits):
                yield self.finding(
                    model.location(value),
                    f"graph input {value.name!r} has {channels} channels, not {span(limits)}",
                )


class InputSize(Rule):
    """A graph input is larger than the hardware can load.

    What it does: Checks height and width of every 4-D graph input, each on its own.

    Why it matters on the hardware: The guide limits what the compiler can load as an input, before
    anything is computed.

    What to do: Train for a smaller image, or cut it into tiles and run the network on each.
    """

    id = "IO-2"
    name = "oversized-input"
    clause = "A, Input: resolution 1x1 to 512x512."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields one finding per graph input."""
        limits = model.target.input_size
        for value in model.inputs:
            shape = model.shape(value) or ()
            size = shape[2:] if len(shape) == 4 else ()
            if not all(within(extent, limits) for extent in size if extent is not None):
                yield self.finding(
                    model.location(value),
                    f"graph input {value.name!r} is {by(size)}, each side must be {span(limits)}",
                )
