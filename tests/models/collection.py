"""The collection of real models: second tier, outside the repository."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("DLACONV_MODELS", Path(__file__).parents[2] / ".." / "shared/models"))
QONNX = FOLDER / "qonnx"
ONNX = FOLDER / "onnx"

needs_models = [
    pytest.mark.models,
    pytest.mark.skipif(
        not QONNX.is_dir(), reason=f"no model collection at {FOLDER} (set DLACONV_MODELS)"
    ),
]
