"""DLA1xx: what a frontend finds in the source's own terms."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

SOURCES = (
    Explanation(
        "DLA101",
        "no-qonnx",
        "The file has no QONNX operator (Quant, BipolarQuant, Trunc).",
        "Without them nothing says which integers the network was trained with.",
        "Use the command of the format that the file has; export_qonnx of Brevitas writes QONNX.",
    ),
    Explanation(
        "DLA102",
        "unknown-operator",
        "The source has an operator that its frontend does not know.",
        "What an unknown operator computes cannot be kept, so the file is refused as a whole.",
        "Export the network without it, or add a handler for it with a plugin (register_layers).",
    ),
    Explanation(
        "DLA103",
        "missing-parameter",
        "A quantiser lacks an input, or one of its parameters is no number.",
        "Scale, zero point and bit width decide the integers; none of them has a default.",
        "Export the network again with a current version of the exporter.",
    ),
    Explanation(
        "DLA104",
        "dynamic-parameter",
        "A quantiser's parameter is computed from the network's data.",
        "A step on the accelerator is a constant of the compiled network.",
        "Export the network in eval mode, with static quantisers.",
    ),
    Explanation(
        "DLA105",
        "invalid-scale",
        "A scale is not positive and finite, or has a value per channel where one is needed.",
        "A scale is the real value of one integer step; zero or infinity leave nothing to compute.",
        "Check the training: a scale that has collapsed belongs to a dead channel.",
    ),
    Explanation(
        "DLA106",
        "fractional-zero-point",
        "A zero point is no whole number, or is one that its operator cannot have.",
        "Zero would lie between two integers, so the integers are not those of the file.",
        "Use a symmetric quantiser, or one that rounds its zero point.",
    ),
    Explanation(
        "DLA107",
        "invalid-bit-width",
        "A bit width is no whole number, differs within a tensor, or leaves no integers.",
        "The bit width says where the source clips.",
        "Use a quantiser with one fixed bit width per tensor.",
    ),
    Explanation(
        "DLA108",
        "invalid-attribute",
        "An attribute of the source's operator has the wrong type or value.",
        "A guess at what was meant could change the network without a word.",
        "Export the network again; the file was edited or comes from an unusual exporter.",
    ),
    Explanation(
        "DLA109",
        "unknown-rounding",
        "A quantiser names a rounding mode that is not known or not reproducible.",
        "In power-of-two networks up to 6 % of the values are ties, on which modes differ.",
        "Train with one of the modes that the message lists.",
    ),
    Explanation(
        "DLA110",
        "unsupported-opset",
        "The model is written in an ONNX opset that is too old or too new.",
        "Operators change their meaning between opsets; unknown ones could be misread.",
        "Export it again; opset 18 is best.",
    ),
    Explanation(
        "DLA111",
        "control-flow",
        "The network decides at run time what is computed (If, Loop, Scan).",
        "The accelerator runs one fixed sequence of layers.",
        "Export the network for inference with a fixed input shape.",
    ),
    Explanation(
        "DLA112",
        "opset-conversion",
        "A node cannot be brought from its opset to the one that dlaconv works in.",
        "Every pass relies on the meaning that operators have in that opset.",
        "Export the network with opset 18.",
    ),
    Explanation(
        "DLA113",
        "model-functions",
        "The functions of the model cannot be inlined.",
        "Layers inside functions cannot be quantised or placed on the hardware.",
        "Inline them before, with onnx.inliner.inline_local_functions.",
    ),
    Explanation(
        "DLA115",
        "mixed-quantisation",
        "A QONNX file also has operators of another quantisation style.",
        "The two styles can contradict each other on what a tensor's integers are.",
        "Convert the file from before qonnx-convert; a file has one quantisation style.",
    ),
    Explanation(
        "DLA116",
        "unknown-layout",
        "The layout of a channels-last operator cannot be told.",
        "The wrong order of axes gives a network that runs and computes nonsense.",
        "Export with shapes (qonnx-cleanup adds them), or keep the network channels first.",
    ),
    Explanation(
        "DLA117",
        "element-type",
        "A quantised tensor does not hold float32 values.",
        "In other types the source's own roundings differ, so its integers would be missed.",
        "Export the network in float32.",
    ),
    Explanation(
        "DLA118",
        "scale-shape",
        "A scale has a shape that is neither one per tensor nor one per channel.",
        "The hardware has one step per map and one per output channel of weights.",
        "Use one scale per tensor, or per channel with a 1 for every other axis.",
    ),
    Explanation(
        "DLA119",
        "unverified-weight-rounding",
        "Weights are stored unrounded; they may not have been trained with the stated rounding.",
        "Brevitas writes ROUND for every weight quantiser; if one rounds otherwise, up to every "
        "second weight is off by one unit.",
        "Compare the file's outputs with the trained network's; round the weights before export.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA120",
        "weights-before-normalisation",
        "Weights are stored as they were before their quantiser normalised them.",
        "Brevitas leaves weight normalisation (A2Q) out of its QONNX export, so the network in the "
        "file is another one.",
        "Compare the file's outputs with the trained network's; export the normalised weights.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA121",
        "qonnx-file",
        "A file given to from-onnx has QONNX operators (Quant, BipolarQuant, Trunc).",
        "Their roundings and bit widths are read by the frontend of that format.",
        "Use dlaconv from-qonnx, or dlaconv convert, which recognises the format.",
    ),
    Explanation(
        "DLA122",
        "dynamic-quantisation",
        "The network quantises its maps by what they hold at run time (DynamicQuantizeLinear, "
        "ConvInteger, MatMulInteger).",
        "Such a file has no scales of maps, and the accelerator's steps are constants: weights "
        "keep their integers, maps are quantised anew.",
        "Give representative inputs with --calibrate.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA123",
        "integer-interface",
        "A graph input or output of integers became a real one: the value that its integers "
        "stand for.",
        "Real values are what dlaconv takes and gives at the border of a network; which integers "
        "the host feeds is in the report's io part.",
        "Give real values to --calibrate and --input, not the source's integers.",
        Severity.NOTE,
    ),
    Explanation(
        "DLA124",
        "integer-arithmetic",
        "An operator computes with quantised integers, and nothing gives its result a scale.",
        "The accelerator needs the step of every map.",
        "Put the operator between DequantizeLinear and QuantizeLinear, or use its QLinear form.",
    ),
    Explanation(
        "DLA125",
        "bit-depths-only",
        "The operators of the file have bit depths (weight_bit and activation_bit, say), but no "
        "scale.",
        "Without scales nothing is quantised yet, so the file is a network in floating point; the "
        "accelerator has 8 bits.",
        "Give representative inputs with --calibrate.",
        Severity.NOTE,
    ),
)
