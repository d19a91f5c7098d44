"""IMPORTED computes what Brevitas computes, layer by layer, for both exporters."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from dlaconv.frontends.qonnx import load_qonnx
from tests.oracle.environment import HERE, imported_values, needs_oracle, run_in_oracle

pytestmark = needs_oracle


def names_of(table: str) -> list[str]:
    """The keys of a table in brevitas_exec.py, which only the oracle can import."""
    tree = ast.parse((HERE / "brevitas_exec.py").read_text())
    (layers,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == table
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
@pytest.mark.parametrize("name", names_of("LAYERS"))
def test_layer(exported: Path, name: str, exporter: str) -> None:
    got, wanted = outputs(exported, name, f"{name}.{exporter}")
    assert got == pytest.approx(wanted, rel=0, abs=1e-6 * peak(wanted))


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", names_of("MISEXPORTED"))
def test_misexported_weights_are_reported_and_the_remedy_helps(
    exported: Path, name: str, exporter: str
) -> None:
    """Should the export be mended one day, the first half of this test fails, and may go."""
    got, wanted = outputs(exported, name, f"{name}.{exporter}")
    assert np.abs(got - wanted).max() > 1e-3 * peak(wanted)
    rule = "DLA120" if (name, exporter) == ("weights_normalised", "dynamo") else "DLA119"
    assert said(exported / f"{name}.{exporter}.onnx") == [rule]
    got, wanted = outputs(exported, name, f"{name}.merged.{exporter}")
    assert got == pytest.approx(wanted, rel=0, abs=1e-6 * peak(wanted))
    assert said(exported / f"{name}.merged.{exporter}.onnx") == []


def outputs(folder: Path, name: str, export: str) -> tuple[np.ndarray, np.ndarray]:
    """What the imported export computes, and what Brevitas does."""
    error = folder / f"{export}.error.txt"
    assert not error.exists(), error.read_text()
    stored = np.load(folder / f"{name}.npz")
    model = folder / f"{export}.onnx"
    (graph_input,) = imported_inputs(model)
    # A QuantTensor as result is exported as several outputs, its value first.
    got = next(iter(imported_values(model, {graph_input: stored["x"]}).values()))
    return got.reshape(stored["y"].shape), stored["y"]


def said(path: Path) -> list[str]:
    """The ids of what the frontend says about a file."""
    return [item.rule for item in load_qonnx(path).diagnostics]


def imported_inputs(path: Path) -> list[str]:
    import onnx

    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in constants]


def peak(array: np.ndarray) -> float:
    return float(np.abs(array).max())
