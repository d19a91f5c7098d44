"""DLA2xx: quantisations that the hardware cannot take over as they are."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

SCALES = (
    Explanation(
        "DLA203",
        "per-channel-activation",
        "A feature map has a step per channel that the weights around it cannot take over, or a "
        "zero point per channel.",
        "The hardware has one step for a whole map, and one per output channel of weights. Steps "
        "of input channels can go into depth-wise convolutions always, and into others only where "
        "their integers times the ratios of the steps are integers that fit.",
        "Quantise activations per tensor, or per channel in front of depth-wise convolutions only.",
    ),
    Explanation(
        "DLA204",
        "double-rounding",
        "The source rounds before and after an activation; the first rounding is dropped.",
        "The hardware rounds once, after the pipelined activation, so a few integers differ by one "
        "unit.",
        "Quantise after the activation only.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA205",
        "unknown-range",
        "The source does not quantise a map, and nothing bounds its values.",
        "Every map on the hardware has 8 bits, so its range must be known.",
        "Give sample inputs with --calibrate, or quantise the map in the source.",
    ),
    Explanation(
        "DLA206",
        "input-quantised-twice",
        "Several quantisers read one graph input.",
        "The hardware stores an input once, so all but the finest requantise the stored map.",
        "Share one quantiser at the input.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA207",
        "interval-bound",
        "A map's step is a bound that nothing can exceed, for want of a quantiser and of data.",
        "Such bounds usually waste several of the 8 bits.",
        "Give sample inputs with --calibrate, or quantise the map in the source.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA208",
        "sign-of-rounded",
        "The sign of a value that the source does not quantise is taken of its 8-bit map.",
        "Behind a convolution or fully connected layer signs are exact; of any other value the "
        "hardware has its rounded integers only, so a negative value that rounds to zero becomes "
        "+1.",
        "Quantise the value before its sign, or take the sign right behind such a layer.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA209",
        "step-out-of-range",
        "A map, weight or bias would need a step below 2^-126 or above 2^127.",
        "Scales are stored as 32-bit floats; beyond that range they are zero, infinite or inexact.",
        "Look for scales, weights or biases of the source that are far too small or too large.",
    ),
    Explanation(
        "DLA210",
        "hidden-ratio",
        "A graph input or output holds a multiple of its real value.",
        "With --io absorb the source's integers are kept there, so the scale in the file is not "
        "the real step.",
        "Let the host use the real step that the message and the report state, or convert with "
        "--io pin.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA211",
        "clipped-input",
        "Calibration data lie beyond the integers of a graph input (SC-11 of the guide's rules).",
        "What the host cannot feed, the network never sees; data that are not scaled as in "
        "training look the same.",
        "Check the scaling of the data. Else use --scale-policy ceil, or a quantiser that covers "
        "them in the source.",
        Severity.WARNING,
    ),
)
