"""DLA147 to DLA151: what it takes to compute what the formats of a Caffe network say."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

CAFFE_QUANTISED = (
    Explanation(
        "DLA147",
        "beyond-chaidnn",
        "What the formats of layers say is computed where CHaiDNN does something else: maps are "
        "converted from one format to another, or multiplied by a negative_slope.",
        "CHaiDNN takes the integers of one format for those of the other, so its results are off "
        "by the ratio of the two steps.",
        "Nothing, if the formats are meant; else give both layers the same one.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA148",
        "bias-saturates",
        "A bias does not fit the format that CHaiDNN or Ristretto gives it.",
        "CHaiDNN holds biases in the format of the layer's result, 8 bits in most networks; what "
        "is beyond is cut off, there and here.",
        "Calibrate the network again, or widen the format.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA149",
        "fused-formats",
        "Convolutions take BatchNorm and Scale along with the formats of the file; CHaiDNN works "
        "out others.",
        "It ignores th_params and fl_params of such layers and cuts th_layer_out to an integer, so "
        "its integers are others than those that the network was calibrated with.",
        "Nothing; the message says how far apart the formats are.",
        Severity.NOTE,
    ),
    Explanation(
        "DLA150",
        "thresholds-of-fused-filters",
        "The th_params of a layer are the largest magnitudes of its filters with BatchNorm and "
        "Scale in them, while the caffemodel has the filters without.",
        "Applied to the filters as they are stored they would clip or waste most of the range.",
        "Nothing, if that is so; they are used for the filters that they fit.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA151",
        "zero-threshold",
        "A threshold of th_params is zero, but the weights of its filter are not.",
        "CHaiDNN clips weights to the threshold, so the filter would be gone.",
        "Give each filter a positive threshold, or none at all for the largest magnitudes.",
    ),
)
