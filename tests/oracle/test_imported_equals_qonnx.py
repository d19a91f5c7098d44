"""IMPORTED computes what qonnx's own executor computes, value by value."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.networks import Style, chain, residual, varied
from tests.oracle.environment import (
    assert_equal_values,
    imported_values,
    needs_oracle,
    qonnx_values,
    run_in_oracle,
)
from tests.oracle.random_graphs import RandomGraph

pytestmark = needs_oracle

ROOT = Path(__file__).parents[2]
GRAPHS = 80
SHIPPED = sorted(ROOT.glob("tests/data/qonnx/*.onnx")) + sorted(ROOT.glob("examples/digits/*.onnx"))
BUILT = {
    "chain": lambda: chain(4, 0),
    "chain_per_tensor": lambda: chain(4, 1, Style(per_channel=False, bias="16")),
    "chain_unsigned_4_bits": lambda: chain(4, 2, Style(unsigned=True, bits=4, weight_bits=4)),
    "residual": lambda: residual(3, 3),
    "residual_power_of_two": lambda: residual(3, 4, Style(power_of_two=True, bias="32")),
    "residual_unsigned": lambda: residual(3, 5, Style(unsigned=True)),
    "varied": lambda: varied(6),
    "varied_power_of_two": lambda: varied(7, Style(power_of_two=True, bias="16")),
}


def images_of(path: Path) -> np.ndarray:
    if path.parent.name == "digits":
        return np.load(path.with_name("samples.npz"))["image"][:8]
    return np.load(path.with_name(f"{path.name.partition('.')[0]}.npz"))["image"][:8]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file, its inputs, and what qonnx makes of them; one process for all."""
    folder = tmp_path_factory.mktemp("qonnx")
    for seed in range(GRAPHS):
        graph = RandomGraph(seed)
        onnx.save(graph.model(), folder / f"random{seed}.onnx")
        np.savez(folder / f"random{seed}.inputs.npz", **graph.samples())
    for path in SHIPPED:
        shutil.copy(path, folder)
        np.savez(folder / f"{path.stem}.inputs.npz", image=images_of(path))
    for name, build in BUILT.items():
        built = build()
        onnx.save(built.model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.inputs.npz", input=built.samples["input"][:4])
    run_in_oracle("qonnx_exec.py", folder)
    return folder


def compare(folder: Path, name: str) -> int:
    """Compares every value with a common name; returns how many there are."""
    wanted = qonnx_values(folder, name)
    samples = dict(np.load(folder / f"{name}.inputs.npz"))
    got = imported_values(folder / f"{name}.onnx", samples, set(wanted))
    outputs = {value.name for value in onnx.load(folder / f"{name}.onnx").graph.output}
    assert outputs <= got.keys()
    assert_equal_values(got, wanted)
    return len(got)


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_graph(computed: Path, seed: int) -> None:
    assert compare(computed, f"random{seed}") > 10


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_network(computed: Path, path: Path) -> None:
    assert compare(computed, path.stem) > 10


@pytest.mark.parametrize("name", BUILT)
def test_generated_network(computed: Path, name: str) -> None:
    assert compare(computed, name) > 10


def test_random_graphs_meet_every_operator_and_mode() -> None:
    nodes = [node for seed in range(GRAPHS) for node in RandomGraph(seed).model().graph.node]
    modes = {
        attribute.s.decode().upper()
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "rounding_mode"
    }
    assert modes == {"ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"}
    truncs = {len(node.input) for node in nodes if node.op_type == "Trunc"}
    assert truncs == {5, 6}
    assert {"Quant", "IntQuant", "BipolarQuant"} <= {node.op_type for node in nodes}
