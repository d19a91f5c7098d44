"""DLA130 to DLA137 and DLA418: what the frontend of Caffe finds."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

CAFFE = (
    Explanation(
        "DLA130",
        "unknown-field",
        "A field of the prototxt is none that a known Caffe has.",
        "Leaving it out could change what the network computes, without a word.",
        "Mend the spelling; --ignore-unknown-fields is for fields that change no result.",
    ),
    Explanation(
        "DLA131",
        "unread-precision",
        "The prototxt quantises the network in a way that is not read.",
        "Ristretto's small floats, powers of two and stochastic rounding are no integers of fixed "
        "steps, rounded to nearest; without them it is another network.",
        "Quantise it with DYNAMIC_FIXED_POINT, or give it in floating point, with --calibrate.",
    ),
    Explanation(
        "DLA132",
        "missing-weights",
        "A layer has no weights in the caffemodel.",
        "Caffe fills them with initial values, often random ones, and goes on.",
        "Give the caffemodel that was trained with this prototxt; layers are found by name.",
    ),
    Explanation(
        "DLA133",
        "weight-shape",
        "Weights in the caffemodel have another shape than the prototxt makes them.",
        "The file belongs to another network, or a parameter was changed since.",
        "Give the caffemodel that was trained with this prototxt.",
    ),
    Explanation(
        "DLA134",
        "caffe-network",
        "The layers do not make a network.",
        "Caffe refuses such a file, too: a blob that nothing writes, or that two layers write.",
        "Mend the prototxt at the line that is named.",
    ),
    Explanation(
        "DLA135",
        "no-onnx-form",
        "A layer is known, but ONNX cannot say what it computes.",
        "Its result depends on data, on code, or on which fork of Caffe runs it.",
        "Remove it from the prototxt and compute it on the host, as the message says.",
    ),
    Explanation(
        "DLA136",
        "data-layer",
        "A layer that reads a training set has become an input of the network.",
        "Means and scales that it applied are no part of the network; the host has to apply them.",
        "Nothing; for calibration on pictures give the options that the message names.",
        Severity.NOTE,
    ),
    Explanation(
        "DLA137",
        "pruned-layer",
        "Losses and measures of accuracy are left out.",
        "They are for training; what they read becomes an output.",
        "Nothing; add a Softmax to the prototxt if probabilities are wanted.",
        Severity.NOTE,
    ),
    Explanation(
        "DLA418",
        "not-caffe",
        "A file is no prototxt or no caffemodel, or is damaged.",
        "Nothing in it can be trusted beyond the place of the first error.",
        "Give the prototxt first and the binary caffemodel second; copy them again if need be.",
    ),
)
