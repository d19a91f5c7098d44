"""Calling programs in the oracle environment, many files at a time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dlaconv.frontends.qonnx import load_qonnx
from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor, split_samples

VARIABLE = "DLACONV_ORACLE"
HERE = Path(__file__).parent

needs_oracle = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not os.environ.get(VARIABLE),
        reason=f"{VARIABLE} names no python with tests/oracle/requirements.txt",
    ),
]
"""Marks of every test that needs the oracle environment."""


def run_in_oracle(script: str, *arguments: str | Path) -> None:
    """Runs a script beside this file; its error output is shown if it fails."""
    command = [os.environ[VARIABLE], "-W", "ignore", str(HERE / script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]


def qonnx_values(folder: Path, name: str) -> dict[str, np.ndarray]:
    """What qonnx_exec.py computed for a file: every value, stacked over samples."""
    error = folder / f"{name}.error.txt"
    assert not error.exists(), error.read_text()
    return dict(np.load(folder / f"{name}.values.npz"))


def imported_values(
    path: Path, samples: dict[str, np.ndarray], names: set[str] | None = None
) -> dict[str, np.ndarray]:
    """What the imported network computes: values of those names that it has, stacked.

    Args:
        path: a QONNX file.
        samples: stacked samples by graph input.
        names: the values wanted, the graph outputs if None.
    """
    imported = load_qonnx(path)
    assert not imported.diagnostics.errors, str(imported.diagnostics)
    found, fed = {}, set(imported.model.graph.inputs)
    for node in imported.model.graph:
        if any(value in fed for value in node.inputs):
            fed.update(node.outputs)
        elif names is not None and dialect.is_quantize(node):
            # onnxruntime folds constants: they cannot be outputs
            quantisation = dialect.quantisation_of(node)
            reals = quantisation.reals(quantisation.integers(dialect.array_of(node.inputs[0])))
            found[node.outputs[0].name or ""] = [reals.astype(np.float32)]
    fetch = None if names is None else sorted(names & {value.name or "" for value in fed})
    executor = Executor(imported.model, fetch)
    for feeds in split_samples(samples):
        for name, array in executor.run(feeds).items():
            found.setdefault(name, []).append(array)
    return {name: np.stack(arrays) for name, arrays in found.items()}


def assert_equal_values(
    got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], *, relative: float = 1e-6
) -> None:
    """Every value of both is the same, up to a share of its largest magnitude."""
    for name in got.keys() & wanted.keys():
        assert got[name].shape[1:] == wanted[name].shape[1:], name  # constants are there once
        error = np.abs(got[name].astype(np.float64) - wanted[name]).max(initial=0)
        bound = relative * max(np.abs(wanted[name]).max(initial=0), 1e-30)
        assert error <= bound, f"{name}: off by {error:.3g}, allowed {bound:.3g}"
