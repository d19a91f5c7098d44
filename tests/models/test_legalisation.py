"""Every real model is made to fit: nothing breaks a rule, and hardly a product leaves."""

from pathlib import Path

import pytest

from dlaconv.diagnostics import Severity
from tests.models.collection import needs_models
from tests.models.legality import convert, files, page, row_of

pytestmark = needs_models

LEAST_SHARE = 0.95
FLOAT_ERROR = 1e-5
ROUNDED_OTHERWISE = {
    "onnx/cifar_resnet20_qdq_s8s8_pc",
    "onnx/imagenet_efficientnet_lite0_qdq_u8s8_pc",
    "qonnx/real/qonnx_espcn_nn_resize_quant",
    "qonnx/trunc_k7_msb.qcdq.ts",
}
"""Quantised networks with float scales in which sums in another order cross a tie somewhere."""
REFUSED = {
    "onnx/mobilenetv3_dynquant_wild": {"DLA122"},
    "qonnx/real/finn_cybsec_PE_SIMD": {"DLA102"},
    "qonnx/real/qonnx_floatquant_act_weight_fp8": {"DLA102"},
}
"""Sources that cannot be read, and why: run-time quantisation, FPGA blocks, small floats."""
_ROWS = {}


def rows(name):
    if name not in _ROWS:
        _ROWS[name] = row_of(name)
    return _ROWS[name]


@pytest.mark.parametrize("name", files())
def test_no_error_is_left_and_nearly_all_products_stay(name):
    row = rows(name)
    assert set(row.refused) == REFUSED.get(name, set())
    if row.refused:
        return
    assert not row.after
    assert row.share >= LEAST_SHARE
    assert all(reason for _, reason in row.host)


@pytest.mark.parametrize("name", files())
def test_the_legalised_chain_computes_what_the_source_computes(name):
    row = rows(name)
    if row.refused:
        pytest.skip("the source cannot be read")
    if row.difference is None:
        pytest.skip("the collection has no inputs for it")
    assert row.changed == 0
    if name not in ROUNDED_OTHERWISE:
        assert row.difference <= FLOAT_ERROR


@pytest.mark.parametrize("name", [name for name in files() if name not in REFUSED])
def test_every_part_converts_and_keeps_every_rule(name, tmp_path):
    report = convert(name, tmp_path)
    errors = [item for item in report["diagnostics"] if item["severity"] == str(Severity.ERROR)]
    assert errors == []
    for part in report["parts"]:
        assert (tmp_path / part["file"]).is_file()


def test_the_page_is_that_of_the_models():
    written = (Path(__file__).parents[2] / "docs" / "legalised-models.md").read_text("utf-8")
    assert written == page([rows(name) for name in files()])
