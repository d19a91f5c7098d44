"""A format of two files, whose options change what the network is."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dlaconv import hookimpl
from dlaconv.frontends import Frontend, Imported
from dlaconv.plugins import Plugin, Plugins


def load_pair(
    net: Annotated[Path, typer.Argument(metavar="NET.pair", help="Sizes.")],
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS.npy", help="Weights.")],
    *,
    step: Annotated[float, typer.Option(help="Step of the input.")] = 0.0625,
    relu: Annotated[bool, typer.Option("--relu", help="Adds a ReLU.")] = False,
    steps: Annotated[
        Path | None, typer.Option("--steps", "--step_file", help="A file with the output's step.")
    ] = None,
    notes: Annotated[
        Path | None, typer.Option("--notes", writable=True, help="A file to write.")
    ] = None,
    shapes: dict | None = None,
) -> Imported:
    """Reads one fully connected layer."""
    import onnx_ir as ir

    from dlaconv.ir import dialect, graph, provenance
    from dlaconv.ir.quantisation import Quantisation

    if notes is not None:
        notes.write_text("read")
    size = (shapes or {}).get("x", (1, json.loads(net.read_text())))[1]
    array = np.load(weights)[:, :size]
    out = 0.25 if steps is None else float(Path(steps).read_text())
    x = ir.val("x", ir.DataType.FLOAT, ir.Shape([1, size]))
    q = dialect.quantize(x, Quantisation.of(step), name="x_q")
    w = dialect.dequantize(dialect.constant("w_int", array), 1 / 64, name="w", output="w_real")
    inputs = [q.outputs[0], w.outputs[0]]
    nodes = [q, w, ir.node("Gemm", inputs, {"transB": 1}, name="fc")]
    if relu:
        nodes.append(ir.node("Relu", nodes[-1].outputs, name="relu"))
    nodes.append(dialect.quantize(nodes[-1].outputs[0], Quantisation.of(out), name="y"))
    whole = ir.Graph([x], nodes[-1].outputs, nodes=nodes, opset_imports={"": 18}, name="pair")
    graph.register_constants(whole, nodes)
    model = ir.Model(whole, ir_version=10)
    provenance.mark_all(model, str(net))
    return Imported(model)


class Pairs:
    """The plugin of the format."""

    @hookimpl
    def register_frontends(self):
        return [Frontend("pair", "Convert a pair.", load_pair, lambda path: path.suffix == ".pair")]


def plugins():
    found = Plugins(third_parties=False)
    found.add(Pairs(), Plugin("pair", "dlaconv-pair 1.0"))
    return found


def write_pair(folder):
    """Both files, and samples for the input."""
    files = folder / "net.pair", folder / "weights.npy"
    files[0].write_text("32")
    draw = np.random.default_rng(3)
    np.save(files[1], draw.integers(-127, 128, (16, 32)).astype(np.int8))
    np.savez(folder / "x.npz", x=draw.normal(0, 1, (4, 32)).astype(np.float32))
    np.save(folder / "y.npy", np.zeros(4, np.int8))
    return files
