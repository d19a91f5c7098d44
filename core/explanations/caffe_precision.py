"""DLA140 to DLA146: what the frontend of Caffe finds in the formats that a network has."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

CAFFE_PRECISION = (
    Explanation(
        "DLA141",
        "precision-format",
        "A layer's format has a number that no format can have.",
        "CHaiDNN goes on, and divides by zero or reads behind the end of a list.",
        "Write the numbers that the network was quantised with.",
    ),
    Explanation(
        "DLA143",
        "precision-default",
        "Fields of a layer's precision are missing, and have the defaults of CHaiDNN or Ristretto.",
        "CHaiDNN's defaults are 6 bits and a threshold of 16, which fit hardly any layer.",
        "Write the fields; the message names them with the values that they have now.",
        Severity.WARNING,
    ),
)
