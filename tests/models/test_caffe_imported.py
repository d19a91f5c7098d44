"""Caffe networks of the collection against what Caffe itself computed of them."""

import numpy as np
import pytest

import dlaconv
from dlaconv.ir.execution import Executor
from tests.models.collection import FOLDER, needs_models

pytestmark = needs_models

CAFFE = FOLDER / "caffe"
TOLERANCE = 1e-4
NOT_EXPRESSIBLE: dict[str, tuple[str, str]] = {}
"""Networks that are refused, with the diagnostic and the reason; every other one must be right."""
REAL = {
    "htshinichi_test/test": "htshinichi_test/test",
    "mtcnn/det1": "mtcnn/det1",
    "mtcnn/det3": "mtcnn/det3",
    "open_nsfw/deploy": "open_nsfw/resnet_50_1by2_nsfw",
    "ulfg_slim320/slim-320": "ulfg_slim320/slim-320",
}
STORED = {"open_nsfw/deploy": "open_nsfw/open_nsfw"}


def right(found, wanted):
    assert wanted.keys() <= found.keys()
    for name, array in wanted.items():
        assert found[name].shape == array.shape, name
        np.testing.assert_allclose(found[name], array, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CAFFE / "sem").glob("*.prototxt")))
def test_a_network_of_one_feature_computes_what_caffe_computes(name):
    files = [CAFFE / "sem" / f"{name}.{ending}" for ending in ("prototxt", "caffemodel")]
    imported = dlaconv.load(files, "caffe")
    if name in NOT_EXPRESSIBLE:
        assert NOT_EXPRESSIBLE[name][0] in {item.rule for item in imported.diagnostics.errors}
        return
    assert not imported.diagnostics.errors, imported.diagnostics
    arrays = dict(np.load(CAFFE / "sem" / f"{name}.npz"))
    fed = {key[3:]: array for key, array in arrays.items() if key.startswith("in:")}
    wanted = {key[4:]: array for key, array in arrays.items() if key.startswith("out:")}
    assert wanted
    right(Executor(imported.model).run(fed), wanted)


@pytest.mark.parametrize("name", REAL)
def test_a_real_network_computes_what_caffe_computes(name):
    weights = CAFFE / "real" / f"{REAL[name]}.caffemodel"
    if not weights.is_file():
        pytest.skip("not in the collection")
    imported = dlaconv.load([CAFFE / "real" / f"{name}.prototxt", weights], "caffe")
    assert not imported.diagnostics.errors, imported.diagnostics
    stored = CAFFE / "real" / f"{STORED.get(name, name)}_caffe_out.npz"
    arrays = dict(np.load(stored))
    if "input" not in arrays:
        arrays["input"] = dict(np.load(str(stored).replace("_caffe_out", "_cv2")))["input"]
    [fed] = [value.name for value in imported.model.graph.inputs]
    right(Executor(imported.model).run({fed: arrays.pop("input")}), arrays)


def test_every_real_network_is_looked_at():
    there = {str(path.relative_to(CAFFE / "real")) for path in (CAFFE / "real").rglob("*.prototxt")}
    assert there <= {f"{name}.prototxt" for name in REAL}
