"""The numbers that the tests of traps expect are those of qonnx's own executor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.oracle.environment import needs_oracle, run_in_oracle
from tests.traps.support import COLLECT

pytestmark = needs_oracle

ROOT = Path(__file__).parents[2]
FEWEST = 150
"""Networks that the tests of traps build, at least."""
UNABLE = re.compile(r"dpu|round_to_zero|AveragePool", re.IGNORECASE)
"""What qonnx cannot execute: rounding modes of Brevitas, channels-last averages."""


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every trap, what its test expects, and what qonnx makes of it."""
    folder = tmp_path_factory.mktemp("traps")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/traps"]
    environment = {**os.environ, COLLECT: str(folder)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:]
    run_in_oracle("qonnx_exec.py", folder)
    return folder


def test_qonnx_computes_what_the_tests_expect(collected: Path) -> None:
    paths = sorted(collected.glob("*.onnx"))
    assert len(paths) >= FEWEST
    differing, unable = [], []
    for path in paths:
        error = path.with_suffix(".error.txt")
        if error.exists():
            if not UNABLE.search(path.stem):
                unable.append((path.stem, error.read_text().strip().splitlines()[-1]))
            continue
        computed = np.load(path.with_suffix(".values.npz"))
        for name, expected in np.load(path.with_suffix(".expected.npz")).items():
            got = np.concatenate(computed[name])
            off = np.abs(got.astype(np.float64) - expected).max(initial=0)
            if off > 1e-5 * np.abs(expected).max(initial=0):
                differing.append((path.stem, name, off))
    assert differing == []
    assert unable == []
