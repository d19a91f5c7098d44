"""The calibration data of a conversion, opened once for all who need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

    from dlaconv.driver.samples import Samples
    from dlaconv.ir.calibration.observe import Store
    from dlaconv.ir.pixels import Pixels
    from dlaconv.options import Options

_AUTO, _WITHOUT_TRYING = "auto", "minmax"
"""What a frontend gets where the user leaves the choice: nothing is tried on the output there, and
clipping in several layers adds up."""


class Calibrating:
    """The data that ``--calibrate`` names; a `dlaconv.frontends.Calibration` for frontends.

    Attributes:
        ranges: the method that the user asks for.
    """

    def __init__(self, options: Options) -> None:
        """Opens nothing yet.

        Args:
            options: the data, what is done to pictures, and how ranges are told from them.
        """
        self.ranges = options.ranges
        self._options = options
        self._samples: Samples | None = None

    @property
    def is_given(self) -> bool:
        """True if the user has data."""
        return self._options.calibrate is not None

    def samples(self, model: ir.Model, pixels: Mapping[str, Pixels]) -> Samples | None:
        """The samples, None without data.

        Args:
            model: a network with the inputs of the source.
            pixels: graph inputs that take pixels, with what the host makes of them.

        Raises:
            UnreadableError: if a file cannot be read.
            UsageError: if the samples do not fit the network.
        """
        from dlaconv.driver.calibration import open_calibration

        if self._samples is None:
            self._samples = open_calibration(self._options, model, pixels)
        return self._samples

    @cached_property
    def store(self) -> Store | None:
        """Where what is seen is kept; None unless that is asked for."""
        from dlaconv.driver.calibration_cache import CalibrationCache

        path = self._options.calibration_cache
        return None if path is None else CalibrationCache(path)

    def reaches(self, model: ir.Model, names: Sequence[str], largest: int) -> dict[str, float]:
        """See `dlaconv.frontends.Calibration.reaches`."""
        from dlaconv.ir.calibration.observe import observe
        from dlaconv.ir.calibration.ranges import FINE, covered

        if self._options.fold_preprocess:
            raise UsageError(
                Diagnostic(
                    "DLA423",
                    "options-conflict",
                    "--fold-preprocess does not go together with formats that are chosen where the "
                    "source is read",
                    help="drop it; the network takes what --mean, --std and --scale make of pixels",
                )
            )
        samples = self.samples(model, {})
        assert samples is not None
        method = _WITHOUT_TRYING if self.ranges == _AUTO else self.ranges
        seen = observe(model, samples.data, names, self.store, fine=method == FINE)
        return {name: covered(item.histogram, method, largest) for name, item in seen.items()}
