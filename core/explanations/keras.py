"""DLA170 to DLA183: what the frontend of Keras finds."""

from __future__ import annotations

from dlaconv.diagnostics import Severity
from dlaconv.explanations.explanation import Explanation

KERAS = (
    Explanation(
        "DLA170",
        "not-keras",
        "A file is no model of Keras, or is damaged.",
        "Nothing in it can be trusted beyond the place of the first error.",
        "Give a .keras or .h5 file, or a .json file with --weights; copy it again if need be.",
    ),
    Explanation(
        "DLA171",
        "weights-only",
        "The file has weights, but does not say what the layers are.",
        "The same weights fit many networks; model.save_weights() writes such files.",
        "Save the model with model.save(), or give the output of model.to_json() and --weights.",
    ),
    Explanation(
        "DLA172",
        "unsafe-archive",
        "A file refers to data elsewhere, names a file twice or outside of it, or is a pickle.",
        "Keras writes no such file; whoever made it may want other data read, or code run.",
        "Save the model again with model.save('model.keras').",
    ),
    Explanation(
        "DLA173",
        "saved-model",
        "This is a SavedModel of TensorFlow, and TensorFlow or tf2onnx is not installed.",
        "It holds TensorFlow's operators in place of Keras's layers; tf2onnx knows them.",
        "Save the Keras model with model.save('model.keras'), or pip install "
        "'dlaconv[tensorflow]'.",
    ),
    Explanation(
        "DLA174",
        "subclassed-model",
        "A model is of a class of its own, so the file does not list its layers.",
        "What it computes is code, which is not in the file.",
        "Rebuild it as a functional model with the same weights, and save that.",
    ),
    Explanation(
        "DLA175",
        "keras-network",
        "The layers do not make a network.",
        "A layer that is read is missing, or reads itself; Keras refuses such a file, too.",
        "Save the model again with model.save('model.keras').",
    ),
    Explanation(
        "DLA176",
        "absent-weights",
        "The file has no weights for a layer.",
        "Keras would leave them at their initial, often random, values.",
        "Give the file that was saved together with the model.",
    ),
    Explanation(
        "DLA177",
        "keras-weight-shape",
        "Weights have another shape than the layer's parameters ask for.",
        "They belong to another model, or a parameter was changed since.",
        "Give the file that was saved together with the model.",
    ),
    Explanation(
        "DLA178",
        "unread-layer",
        "A layer, or a parameter of it, is known, but not read.",
        "It keeps a state, depends on data, or has no counterpart in ONNX.",
        "Compute it on the host, or use another layer, as the message says.",
    ),
    Explanation(
        "DLA179",
        "code-in-layer",
        "What a layer computes is code (Lambda and its like).",
        "Code in a file could do anything on the machine that reads it, so it is never run.",
        "Write it with layers of Keras or keras.ops, and save the model again.",
    ),
    Explanation(
        "DLA180",
        "unread-quantisation",
        "A layer that quantises is none of those that are read.",
        "Without its quantisers it is another network.",
        "Give the network in floating point, with --calibrate.",
    ),
    Explanation(
        "DLA181",
        "unified-map",
        "Elements of a map have different widths (HGQ2), and get one grid.",
        "The accelerator has one grid for a map. It is as fine as the finest and as wide as the "
        "widest, so some values are rounded more finely than in training, or saturate later.",
        "Train with homogeneous widths for maps, or judge the result by its accuracy.",
        Severity.WARNING,
    ),
    Explanation(
        "DLA182",
        "wrapping-map",
        "A map that wraps where it overflows (HGQ2) saturates on the hardware.",
        "The two differ only where the traced range is exceeded.",
        "Nothing, if ranges were traced on representative data.",
        Severity.NOTE,
    ),
    Explanation(
        "DLA183",
        "tensorflow-failed",
        "TensorFlow, or tf2onnx, could not convert or run a model.",
        "Both run in a process of their own; what it said last is in the notes.",
        "Install what is missing with pip install 'dlaconv[tensorflow]', or see the notes.",
    ),
    Explanation(
        "DLA184",
        "unmasked-map",
        "Single elements of a map, which the source prunes to no bits, get the map's grid.",
        "The hardware cannot clear single elements of a map. Most are pruned because no signal is "
        "there, as at the edge of pictures, and then this changes nothing.",
        "Look at the quality of the outputs. If it matters, --partition lets the host clear them; "
        "or train with homogeneous widths for maps.",
        Severity.WARNING,
    ),
)
