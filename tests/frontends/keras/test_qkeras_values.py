"""The quantisers against what QKeras 0.9 and qkeras-v3 computed; see `qkeras_values`."""

import json

import numpy as np
import pytest

from dlaconv.frontends.keras.dialects import qkeras
from dlaconv.frontends.keras.dialects.qkeras_spec import spec_of
from tests.frontends.keras.files import L, one_layer
from tests.frontends.keras.qkeras_values import PATH, inputs

ROWS = json.loads(PATH.read_text())
CONSTANTS = [row for row in ROWS if row["input"] != "map"]
MAPS = [row for row in ROWS if row["input"] == "map"]


def called(row):
    return f"{row['quantiser']}({row['config']}) of {row['input']}"


@pytest.mark.parametrize("row", CONSTANTS, ids=called)
def test_constants_are_what_qkeras_computes(row):
    array = inputs()[row["input"]]
    spec = spec_of({"class_name": row["quantiser"], "config": row["config"]})
    found = qkeras.weights(spec, array)
    np.testing.assert_array_equal(found.values, np.rint(found.values))
    wanted = np.float32(row["result"]).reshape(array.shape)
    np.testing.assert_allclose(found.reals, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("row", MAPS, ids=called)
def test_maps_are_what_qkeras_computes(tmp_path, row):
    x = inputs()["map"]
    quantiser = {"class_name": row["quantiser"], "config": row["config"]}
    layer = L("QActivation", "q", config={"activation": quantiser}, module="qkeras.qlayers")
    wanted = np.float32(row["result"]).reshape(x.shape)
    np.testing.assert_allclose(one_layer(tmp_path, layer, x), wanted, rtol=1e-6, atol=1e-7)
