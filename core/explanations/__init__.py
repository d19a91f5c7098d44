"""Every diagnostic that is no rule of the hardware, explained: ids that start with ``DLA``.

This is where such an id gets its name; a test compares every use of an id in the code with it.
"""

from __future__ import annotations

from dlaconv.explanations.caffe import CAFFE
from dlaconv.explanations.caffe_precision import CAFFE_PRECISION
from dlaconv.explanations.caffe_quantised import CAFFE_QUANTISED
from dlaconv.explanations.caffe_written import CAFFE_WRITTEN
from dlaconv.explanations.calibration import CALIBRATION
from dlaconv.explanations.comparison import COMPARISON
from dlaconv.explanations.explanation import Explanation
from dlaconv.explanations.files import FILES
from dlaconv.explanations.keras import KERAS
from dlaconv.explanations.operators import OPERATORS
from dlaconv.explanations.scales import SCALES
from dlaconv.explanations.sources import SOURCES
from dlaconv.explanations.usage import USAGE

FAMILIES: dict[str, tuple[Explanation, ...]] = {
    "The source": SOURCES,
    "Caffe": CAFFE,
    "Quantised Caffe networks": (*CAFFE_PRECISION, *CAFFE_QUANTISED, *CAFFE_WRITTEN),
    "Keras": KERAS,
    "Quantisations": SCALES,
    "Calibration": CALIBRATION,
    "Operators and shapes": OPERATORS,
    "Files": FILES,
    "Options, plugins and bugs": USAGE,
    "Simulation and comparison": COMPARISON,
}
"""The explanations by what they are about."""

EXPLANATIONS = tuple(
    sorted((item for family in FAMILIES.values() for item in family), key=lambda item: item.id)
)
"""Every explanation, by id; ids are unique and never used again."""

__all__ = ["EXPLANATIONS", "FAMILIES", "Explanation"]
