"""A frontend for ``.tiny`` files: one fully connected layer of integers, in JSON."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dlaconv import hookimpl
from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import UnreadableError
from dlaconv.frontends import Frontend, Imported


def load_tiny(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tiny file.")],
    relu: Annotated[bool, typer.Option("--relu", help="Put a ReLU after the layer.")] = False,
) -> Imported:
    """Reads one layer: weights [O, K], bias [O] and the three steps."""
    import numpy as np
    import onnx_ir as ir

    from dlaconv.ir import dialect, graph, provenance
    from dlaconv.ir.quantisation import Quantisation

    try:
        net = json.loads(file.read_text("utf-8"))
        integers, bias = np.array(net["weights"], np.int8), np.array(net["bias"], np.float32)
        into, weight, out = (net["steps"][name] for name in ("input", "weights", "output"))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        found = Diagnostic("TINY1", "bad-file", repr(error), location=Location(file=str(file)))
        raise UnreadableError(found) from error
    x = ir.val("x", ir.DataType.FLOAT, ir.Shape([1, integers.shape[1]]))
    q = dialect.quantize(x, Quantisation.of(into), name="x_q")
    w = dialect.dequantize(dialect.constant("w_int", integers), weight, name="w", output="w_real")
    inputs = [q.outputs[0], w.outputs[0], dialect.constant("bias", bias)]
    nodes = [q, w, ir.node("Gemm", inputs, {"transB": 1}, name="fc")]
    nodes += [ir.node("Relu", nodes[-1].outputs, name="relu")] if relu else []
    nodes.append(dialect.quantize(nodes[-1].outputs[0], Quantisation.of(out), name="y"))
    whole = ir.Graph([x], nodes[-1].outputs, nodes=nodes, opset_imports={"": 18}, name="tiny")
    graph.register_constants(whole, nodes)
    model = ir.Model(whole, ir_version=10)
    provenance.mark_all(model, str(file))
    return Imported(model)


@hookimpl
def register_frontends() -> list[Frontend]:
    """Adds ``dlaconv from-tiny``."""
    return [Frontend("tiny", "Convert a .tiny file.", load_tiny, lambda f: f.suffix == ".tiny")]
