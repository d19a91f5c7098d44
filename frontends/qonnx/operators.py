"""Which operators are QONNX's, and which of their relatives cannot be converted, and why."""

from __future__ import annotations

GENERAL = frozenset(
    {
        "",
        "qonnx",
        "qonnx.custom_op.general",
        "onnx.brevitas",
        "finn",
        "finn.custom_op.general",
    }
)
"""Domains that Quant and its like are found in; files of all ages mix them."""
CHANNELS_LAST = "qonnx.custom_op.channels_last"
QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")
"""Operators that the frontend converts; none of these names is an operator of ONNX itself."""

_FPGA = "finn.custom_op.fpgadataflow"

UNSUPPORTED: dict[str, tuple[str, str]] = {
    "FloatQuant": (
        "quantises to a small float format; the accelerator computes on integers",
        "train with an integer quantiser, such as Int8WeightPerChannelFixedPoint",
    ),
    "MultiThreshold": (
        "is FINN's form of a quantised activation, made from the scales that we need",
        "convert the QONNX file that FINN was given, before its streamlining",
    ),
    "QuantAvgPool2d": (
        "is FINN's form of an average pool, made from the scales that we need",
        "convert the QONNX file that FINN was given",
    ),
    "XnorPopcountMatMul": (
        "multiplies bipolar vectors by counting bits",
        "convert the QONNX file from before that transformation",
    ),
    "Im2Col": (
        "is a convolution taken apart into a matrix product",
        "convert the QONNX file from before LowerConvsToMatMul",
    ),
    "MaxPoolNHWC": (
        "is FINN's form of a max pool",
        "convert the QONNX file that FINN was given",
    ),
    "QuantLSTMCell": (
        "is a recurrent layer",
        "the accelerator runs feed-forward networks; replace the layer",
    ),
    "GenericPartition": (
        "stands for a part of the network that is stored elsewhere",
        "convert the file from before the partitioning",
    ),
}
"""Known operators that have no counterpart: what they do and what to do instead."""


def is_qonnx(domain: str, op_type: str) -> bool:
    """True for the operators that make a file a QONNX file."""
    if domain == CHANNELS_LAST:
        return True
    return domain in GENERAL and (op_type in QUANTISERS or op_type in UNSUPPORTED)


def why_not(domain: str, op_type: str) -> tuple[str, str]:
    """What is known about an operator that cannot be converted, and what to do about it."""
    if domain.startswith(_FPGA):
        return (
            "is a hardware block of FINN; scales and weights are no longer in the file",
            "convert the QONNX file that FINN was given",
        )
    known = UNSUPPORTED.get(op_type)
    if known is not None:
        return known
    place = f"of domain {domain!r} " if domain else ""
    return (
        f"{place}is no operator that this frontend knows",
        "express it with standard ONNX operators, or add it with a plugin (register_layers)",
    )
