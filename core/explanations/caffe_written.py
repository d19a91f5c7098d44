"""What is found where a Caffe network is written as CHaiDNN reads it."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

CAFFE_WRITTEN = (
    Explanation(
        "DLA153",
        "converted-formats",
        "Formats of one of CHaiDNN's modes are converted to the other, or Ristretto's to "
        "CHaiDNN's.",
        "A threshold becomes the next power of two with one unit for all filters, which costs up "
        "to a bit or more; a power of two becomes a threshold without its most negative integer.",
        "Leave out --quant-type, unless the other mode is what CHaiDNN should run.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA154",
        "no-formats",
        "A prototxt with formats is to be written, but there is nothing that says them.",
        "CHaiDNN would take 6 bits and a threshold of 16 for every layer.",
        "Give sample inputs with --calibrate, --precision and --fl-bitwidths, or --thresholds.",
    ),
    Explanation(
        "DLA155",
        "unwritten-precision",
        "A prototxt with formats is to be written, but the source leaves some layers with weights "
        "in floating point.",
        "CHaiDNN has no such layers, and would take its defaults for them.",
        "Give these layers formats in the source, too.",
    ),
)
