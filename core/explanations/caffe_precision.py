"""DLA140 to DLA146: what the frontend of Caffe finds in the formats that a network has."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

CAFFE_PRECISION = (
    Explanation(
        "DLA140",
        "quant-type",
        "A layer has a quant_type that CHaiDNN does not have, or layers have several.",
        "It says whether fl_... or th_... fields count; layers of another type read the same "
        "integers as other numbers.",
        'Write "DynamicFixed" or "Xilinx", the same one into every layer.',
    ),
    Explanation(
        "DLA141",
        "precision-format",
        "A layer's format has a number that no format can have.",
        "CHaiDNN goes on, and divides by zero or reads behind the end of a list.",
        "Write the numbers that the network was quantised with.",
    ),
    Explanation(
        "DLA142",
        "precision-shift",
        "In DynamicFixed mode, results have no fewer bits behind the binary point than sums.",
        "CHaiDNN gets from sums to results by a shift to the right, and rounds with 1 << (shift - "
        "1), which is undefined.",
        "Give fl_layer_out a value below fl_layer_in + fl_params.",
    ),
    Explanation(
        "DLA143",
        "precision-default",
        "Fields of a layer's precision are missing, and have the defaults of CHaiDNN or Ristretto.",
        "CHaiDNN's defaults are 6 bits and a threshold of 16, which fit hardly any layer.",
        "Write the fields; the message names them with the values that they have now.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA144",
        "ignored-precision",
        "A precision that is written has no effect, or a layer is left in floating point.",
        "CHaiDNN does not read it for this type of layer, which keeps the format of what it reads "
        "or is computed in floating point.",
        "Nothing, unless the layer was meant to be quantised; the message names the layers.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA145",
        "thresholds-file",
        "The file of --thresholds cannot be read, or does not fit the network.",
        "A threshold that is wrong or missing makes another network of it.",
        "Give the JSON file that the quantiser wrote for this network; names are compared.",
    ),
    Explanation(
        "DLA146",
        "several-precisions",
        "The prototxt, --thresholds and --precision say different things about the same layers.",
        "Each of them is another network, and none can be told to be the one that is meant.",
        "Drop all but one.",
    ),
)
