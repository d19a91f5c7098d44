"""The report of a conversion as a page, with histograms of what was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.driver.accelerator import AcceleratorPart
    from dlaconv.driver.verification import Observer
    from dlaconv.ir.histograms import Histogram
    from dlaconv.ir.layers import Layer
    from dlaconv.options import Options


@dataclass
class HtmlReport:
    """A page in the making.

    Attributes:
        file: where it goes.
        maps: histograms of the compared maps by name.
    """

    file: Path
    maps: dict[str, Histogram] = field(default_factory=dict)

    def observer(self, part: AcceleratorPart) -> Observer:
        """Counts the source's values of the maps of a part."""
        from dlaconv.driver.facts import real_step
        from dlaconv.ir.histograms import Histogram

        stored = part.network.maps

        def observe(name: str, wanted: np.ndarray, got: np.ndarray, beside: np.ndarray) -> None:
            if name not in self.maps:
                item = stored[name]
                self.maps[name] = Histogram(item.qmin, item.qmax, real_step(part.maps, item))
            self.maps[name].add(wanted)

        return observe

    def write(self, report: Mapping[str, Any], parts: Sequence[AcceleratorPart]) -> None:
        """Writes the page, whole or not at all."""
        from dlaconv.files import replacing
        from dlaconv.html.page import report_page

        maps = {name: found.as_json() for name, found in self.maps.items()}
        weights = {
            layer.output.name: _weights(layer, part)
            for part in parts
            for layer in part.network.layers
            if layer.weights is not None
        }
        with replacing(self.file) as temporary:
            temporary.write_text(report_page(report, maps, weights), "utf-8")


def page_of(options: Options, read: Sequence[Path], output: Path | None) -> HtmlReport | None:
    """The report as a page if that is asked for; it may overwrite nothing of the conversion.

    Args:
        options: where it goes, and what else is written.
        read: the files of the source.
        output: the converted file, None if none is written.

    Raises:
        UsageError: if the page would overwrite a file.
    """
    from dlaconv.files import require_output, require_separate

    if options.html is None:
        return None
    require_output(options.html, read)
    if output is not None:
        require_separate(options.html, output, options.emit)
    return HtmlReport(options.html)


def _weights(layer: Layer, part: AcceleratorPart) -> dict[str, Any]:
    """The integers of a layer's weights, block by block, and the range of their steps."""
    from dlaconv.ir.blocks import row_blocks
    from dlaconv.ir.histograms import Histogram

    weights = layer.weights
    assert weights is not None
    found, extreme = Histogram(-128, 127, 1.0), 0
    for _, block in row_blocks(weights.tensor):
        found.add(block)
        extreme = max(extreme, int(block.max(initial=0)), -int(block.min(initial=0)))
    return found.as_json() | {
        "layer": str(part.maps.get(layer.output.name, {}).get("layer", "")),
        "shape": list(weights.shape),
        "smallest_step": float(weights.scales.min()),
        "largest_step": float(weights.scales.max()),
        "extreme": extreme,
    }
