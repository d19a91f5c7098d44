"""Real files of formats for Caffe networks: reconstructed prototxts, and quantisers' thresholds."""

import json
import re

import pytest

from dlaconv.ir.formats import PowerOfTwo
from tests.frontends.caffe.precisions import DYNAMIC, XILINX, QFormat, conv, read
from tests.models.collection import FOLDER, needs_models

pytestmark = needs_models

CHAI = FOLDER / "caffe" / "chai"


def names(pattern):
    return sorted(str(path.relative_to(CHAI)) for path in CHAI.glob(pattern))


@pytest.mark.parametrize("name", names("*.prototxt"))
def test_reconstructed_networks_have_a_format_for_every_layer(name):
    precisions, found = read((CHAI / name).read_text("utf-8"))
    assert not found.errors, found
    weighted = [only for only in precisions.values() if only is not None and only.weights]
    assert len(weighted) >= 57
    assert {only.mode for only in weighted} == {XILINX if "Xilinx" in name else DYNAMIC}
    if "fl4-7-4" in name:
        assert {(only.maps_in, only.weights, only.maps_out) for only in weighted} == {
            (QFormat(8, 4), QFormat(8, 7), QFormat(8, 4))
        }


@pytest.mark.parametrize("name", names("mlsuite_json/*.json"))
def test_thresholds_of_quantisers_are_read_whole(name):
    entries = json.loads((CHAI / name).read_text("utf-8"))["network"]
    filters = {
        item["name"]: item["th_params"] for item in entries if isinstance(item["th_params"], list)
    }
    text = "".join(conv(key, outputs=len(values)) for key, values in filters.items())
    precisions, found = read(text, thresholds=CHAI / name)
    assert not found.errors, found
    for item in entries:
        if item["name"] not in filters:
            continue
        only = precisions[item["name"]]
        assert float(only.maps_in.th) == item["th_layer_in"]
        assert [float(value) for value in only.weights.thresholds] == item["th_params"]
    made_by_decent = "face" in name or "resnet50" in name
    steps = [only.maps_out.step for only in precisions.values()]
    assert all(PowerOfTwo.exactly(step) for step in steps) == made_by_decent


def test_a_prototxt_and_a_file_of_thresholds_say_the_same():
    text = (CHAI / "RECON_googlenet_nolrn_Xilinx8_googlenet_v1_8b.prototxt").read_text("utf-8")
    written, _ = read(text)
    plain = re.sub(r"precision_param \{[^}]*\}", "", text)
    given, found = read(plain, thresholds=CHAI / "mlsuite_json" / "googlenet_v1_8b.json")
    assert not found.errors, found
    convolutions = [name for name, only in given.items() if only is not None]
    assert len(convolutions) == 57
    for name in convolutions:
        one, other = written[name], given[name]
        for side in ("maps_in", "maps_out", "bias"):
            assert float(getattr(one, side).th / getattr(other, side).th) == pytest.approx(
                1, rel=1e-6
            )
        assert len(one.weights.thresholds) == len(other.weights.thresholds)
        for filters in zip(one.weights.thresholds, other.weights.thresholds, strict=True):
            assert float(filters[0] / filters[1]) == pytest.approx(1, rel=1e-6)
