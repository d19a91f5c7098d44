import numpy as np

from dlaconv.driver.verification import Verification
from dlaconv.ir.compare import Comparison, MapRow


def verification(wanted, got, fidelity="exact"):
    row = MapRow(Comparison("map", "conv1", fidelity, 0.5, -128, 127))
    row.add(np.asarray(wanted), np.asarray(wanted), np.asarray(got, np.float64))
    return Verification([row], ("map",), 1, "half-even", "random inputs")


def test_a_layer_that_is_off_by_more_than_its_roundings_fails_and_is_named():
    found = verification([[0.0, 1.0]], [[0, 3]])
    assert not found.passed
    [finding] = found.diagnostics()
    assert (finding.rule, finding.location.layer) == ("DLA901", "conv1")
    assert "2 units" in finding.message
    assert "roundings explain 1" in finding.message
    assert not found.as_json()["passed"]


def test_a_layer_that_is_off_by_a_unit_passes_in_silence():
    found = verification([[0.0, 1.0]], [[0, 2]])
    assert found.passed
    assert not len(found.diagnostics())


def test_a_map_that_the_source_does_not_quantise_has_no_integers_to_miss():
    assert verification([[0.0, 1.0]], [[0, 3]], fidelity="derived").passed


def test_frequent_saturation_is_a_warning_with_its_share():
    found = verification([[300.0, 1.0]], [[127, 1]])
    assert found.passed
    [finding] = found.diagnostics()
    assert (finding.rule, str(finding.severity)) == ("DLA902", "warning")
    assert "50.00%" in finding.message
