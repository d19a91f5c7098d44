"""DLA9xx: what simulation and comparison find."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

COMPARISON = (
    Explanation(
        "DLA901",
        "local-difference",
        "A layer that is fed with the source's values is off by more than roundings explain.",
        "Roundings belong to the format; what is beyond them is an error of the conversion.",
        "Look the layer up under 'tensors' and 'rewrites' in the report. If weights quantised "
        "anew or a dropped rounding do not explain it, report it as a bug.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA902",
        "clipped-values",
        "The hardware saturates values of a map that the source does not.",
        "A saturated value is off by more than a rounding, without limit.",
        "Give representative inputs with --calibrate, or use --scale-policy ceil.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA903",
        "unrelated-files",
        "Source and converted file have different graph inputs, or maps of different shapes.",
        "Only a file and its own source can be compared.",
        "Give the file that this one was converted from.",
    ),
    Explanation(
        "DLA904",
        "lost-clip",
        "The source clips values that the hardware, whose range is wider, does not.",
        "A source below 8 bits was trained with a clip that the hardware lacks; graph inputs and "
        "outputs with a power of two for a step reach further than the source's, too, and so does "
        "one side of a map with a zero point.",
        "Quantise so that the source uses all 8 bits, without zero points; --io absorb keeps the "
        "steps of graph inputs and outputs.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA905",
        "twin-semantics",
        "The QDQ twin rounds or activates otherwise than the hardware was said to.",
        "QuantizeLinear rounds half-even, and activations stand before it; the twin is off by a "
        "unit wherever that matters.",
        "Compare integers with --emit sim or `dlaconv run`, which follow every option.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA906",
        "infinite-values",
        "The source computes infinite values, or none, on the inputs that it is compared on.",
        "No step covers infinity, and nothing can be said of a difference from it.",
        "Look for weights or scales that are far too large, or compare on real inputs.",
    ),
    Explanation(
        "DLA907",
        "not-computable",
        "A source, or a part for the host, cannot be run in onnxruntime.",
        "Without the source's values there is nothing to compare with.",
        "Export the network for a batch of one, with operators that onnxruntime knows.",
    ),
    Explanation(
        "DLA908",
        "differs-from-reference",
        "Another program (--verify-with) computes something else of the source.",
        "All other comparisons start from what was read, so only this one shows a wrong reading.",
        "Report it with the file; without --verify-with it is converted as it was read.",
    ),
    Explanation(
        "DLA910",
        "accumulator-overflow",
        "The accumulator of a layer needs more bits than it has.",
        "The hardware's accumulator would wrap around: a large positive sum becomes negative.",
        "Split the layer, or bring the steps of its operands closer together.",
    ),
    Explanation(
        "DLA911",
        "not-exactly-computable",
        "The multipliers of a layer have too many digits for an exact simulation.",
        "The simulator gives the right integers or none.",
        "Put the weight steps on the grid 2^n/a and the slopes on 16 bits.",
    ),
    Explanation(
        "DLA912",
        "input-values",
        "The inputs of a simulation are not the integers that the hardware takes.",
        "The host quantises the inputs; the hardware only sees integers in their range.",
        "Feed integers in the range that the message states, or real values.",
    ),
)
