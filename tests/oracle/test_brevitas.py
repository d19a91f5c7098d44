"""IMPORTED computes what Brevitas computes, layer by layer, for both exporters."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from tests.oracle.environment import HERE, imported_values, needs_oracle, run_in_oracle

pytestmark = needs_oracle


def layer_names() -> list[str]:
    """The keys of ``LAYERS`` in brevitas_exec.py, which only the oracle can import."""
    tree = ast.parse((HERE / "brevitas_exec.py").read_text())
    (layers,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "LAYERS"
    )
    assert isinstance(layers, ast.Dict)
    return [key.value for key in layers.keys if isinstance(key, ast.Constant)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every layer's exports and outputs; one process for all."""
    folder = tmp_path_factory.mktemp("brevitas")
    run_in_oracle("brevitas_exec.py", folder)
    return folder


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", layer_names())
def test_layer(exported: Path, name: str, exporter: str) -> None:
    error = exported / f"{name}.{exporter}.error.txt"
    assert not error.exists(), error.read_text()
    stored = np.load(exported / f"{name}.npz")
    model = exported / f"{name}.{exporter}.onnx"
    (graph_input,) = imported_inputs(model)
    # A QuantTensor as result is exported as several outputs, its value first.
    got = next(iter(imported_values(model, {graph_input: stored["x"]}).values()))
    wanted = stored["y"]
    assert got.reshape(wanted.shape) == pytest.approx(wanted, rel=0, abs=1e-6 * peak(wanted))


def imported_inputs(path: Path) -> list[str]:
    import onnx

    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in constants]


def peak(array: np.ndarray) -> float:
    return float(np.abs(array).max())
