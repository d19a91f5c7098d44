"""Runs QONNX files in qonnx's own executor; belongs to the oracle environment, not to the tests.

``python qonnx_exec.py FOLDER``: for every ``NAME.onnx`` with ``NAME.inputs.npz`` (stacked samples
by graph input) it writes ``NAME.values.npz``: every value of the graph, stacked over samples; or
``NAME.error.txt`` if qonnx cannot run the file.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

# Datatype annotations of old files do not fit arbitrary inputs; they change no arithmetic.
os.environ["SANITIZE_QUANT_TENSORS"] = "0"

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.general import GiveUniqueNodeNames
from qonnx.transformation.infer_shapes import InferShapes

CURRENT = "qonnx.custom_op.general"
TRUNC_1 = "onnx.brevitas"
"""An alias of the current domain inside qonnx; here the one whose Trunc is of version 1."""
QUANTISERS = {"Quant", "IntQuant", "BipolarQuant", "Trunc", "FloatQuant"}
INPUTS_OF_TRUNC_1 = 5


def prepared(path: Path) -> ModelWrapper:
    """The model with what qonnx trips over mended, without changing its meaning.

    * old and empty domains of quantisers become the current one;
    * the two versions of Trunc are told apart by their inputs, as the version that a file imports
      cannot be relied on;
    * qonnx reads the version of the standard operators at the first import;
    * shapes are inferred, as the executor wants them all.
    """
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type in QUANTISERS:
            old = node.op_type == "Trunc" and len(node.input) == INPUTS_OF_TRUNC_1
            node.domain = TRUNC_1 if old else CURRENT
    others = {
        item.domain: item.version
        for item in model.opset_import
        if item.domain not in {"", "ai.onnx", CURRENT, TRUNC_1}
    }
    standard = max(item.version for item in model.opset_import if item.domain in {"", "ai.onnx"})
    if any(node.domain == "qonnx.custom_op.channels_last" for node in model.graph.node):
        others["qonnx.custom_op.channels_last"] = standard
    del model.opset_import[:]
    for domain, version in {"": standard, CURRENT: 2, TRUNC_1: 1, **others}.items():
        model.opset_import.append(onnx.helper.make_opsetid(domain, version))
    wrapper = ModelWrapper(model)
    return wrapper.transform(GiveUniqueNodeNames()).transform(InferShapes())


def run(path: Path) -> None:
    """Runs one file on its inputs and writes every value."""
    wrapper = prepared(path)
    samples = dict(np.load(path.with_suffix(".inputs.npz")))
    values: dict[str, list[np.ndarray]] = {}
    made = {name for node in wrapper.graph.node for name in node.output if name}
    for index in range(min(len(array) for array in samples.values())):
        feeds = {name: array[index : index + 1] for name, array in samples.items()}
        context = execute_onnx(wrapper, feeds, return_full_exec_context=True)
        for name in made & context.keys():
            values.setdefault(name, []).append(np.asarray(context[name]))
    stacked = {name: np.stack(arrays) for name, arrays in values.items()}
    np.savez(path.with_suffix(".values.npz"), **stacked)


def main() -> None:
    """Runs every file of the folder; one that fails does not stop the others."""
    for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
        try:
            run(path)
        except Exception:
            path.with_suffix(".error.txt").write_text(traceback.format_exc())


if __name__ == "__main__":
    main()
