"""Every QONNX file of the collection has the same outcome under every scale policy."""

import pytest

from dlaconv.errors import UserError
from dlaconv.options import POLICIES
from tests.models.collection import needs_models
from tests.models.test_qonnx_conversion import TABLE, convert, files, network_of

pytestmark = needs_models


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "absorb"])
@pytest.mark.parametrize("name", files())
def test_outcome(name, policy, tmp_path):
    expected = TABLE.get(network_of(name))
    try:
        report = convert(name, tmp_path, policy=policy).report
    except UserError as error:
        ids = {item.rule for item in error.diagnostics.errors}
        assert ids
        assert expected is None or ids == set(expected.refused)
        return
    assert expected is None or not expected.refused
    verification = report["verification"]
    assert verification["passed"]
    if policy == "ceil":
        quantised = [row for row in verification["maps"] if row["class"] != "derived"]
        assert sum(row["local"]["clipped"] for row in quantised) == 0
