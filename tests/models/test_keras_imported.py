"""Keras models of the collection against what Keras itself computed of them."""

import subprocess
import sys

import numpy as np
import pytest

import dlaconv
from dlaconv.ir.execution import Executor
from tests.models.collection import FOLDER, needs_models

pytestmark = needs_models

KERAS = FOLDER / "keras"
TOLERANCE = 2e-5
"""Of the largest output; sums in another order differ by this much."""
EXACT = {"hgq2", "qkeras09", "qkerasv3"}
"""What begins the names of models whose sums are exact in floating point, in whatever order."""
QUANTISED = {
    "k3_int8_native_digits.h5": "Keras's own quantisation",
    "k3_int8_native_digits.keras": "Keras's own quantisation",
    "tfmot_qat_digits.h5": "tfmot",
    "tfmot_qat_digits.keras": "tfmot",
}
"""Models whose quantisers are not read yet."""
FILES = sorted(
    str(path.relative_to(KERAS)) for end in ("keras", "h5") for path in KERAS.rglob(f"*.{end}")
)


def reference(name):
    path = KERAS / name
    arrays = dict(np.load(path.with_name(f"{path.stem}_io.npz")))
    inputs = [arrays[key] for key in sorted(arrays) if key.startswith("x")]
    outputs = [arrays[key] for key in sorted(arrays) if key.startswith("y_expected")]
    return inputs, outputs


@pytest.mark.parametrize("name", [name for name in FILES if name not in QUANTISED])
def test_a_model_computes_what_keras_computes(name):
    inputs, outputs = reference(name)
    imported = dlaconv.load(KERAS / name, "keras")
    assert not imported.diagnostics.errors, imported.diagnostics
    graph = imported.model.graph
    fed = {value.name: array for value, array in zip(graph.inputs, inputs, strict=True)}
    found = Executor(imported.model).run(fed)
    for value, wanted in zip(graph.outputs, outputs, strict=True):
        assert found[value.name].shape == wanted.shape
        exact = name.partition("_")[0] in EXACT
        bound = 0 if exact else TOLERANCE * abs(wanted).max()
        np.testing.assert_allclose(found[value.name], wanted, rtol=0, atol=bound)


@pytest.mark.parametrize("name", [name for name in FILES if name in QUANTISED])
def test_quantised_models_are_refused_for_that_reason(name):
    errors = dlaconv.load(KERAS / name, "keras").diagnostics.errors
    assert {item.rule for item in errors} == {"DLA180"}
    assert QUANTISED[name] in errors[0].message


def test_reading_takes_little_memory():
    code = (
        "import sys, dlaconv; dlaconv.load(sys.argv[1]); "
        "print(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1])"
    )
    file = KERAS / "real/tiny_vww_96.h5"
    if not file.is_file():
        pytest.skip("not in the collection")
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 150 * 1024
