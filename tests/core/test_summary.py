import pytest

from dlaconv import summary
from dlaconv.analysis_text import comparison_text
from tests.core import samples


def test_a_conversion_says_what_became_of_maps_and_weights():
    shown = summary.summary(samples.REPORT)
    assert "5 exact, 2 rescaled, 1 derived" in shown
    assert "3 kept, 1 requantised" in shown
    assert "45.3 dB" in shown
    assert "2 passed, 1 violated: IO-3 (2x)" in shown
    assert "4 samples of random inputs: passed" in shown
    assert "2, 1 of them approximate" in shown
    assert "net.dla.onnx" in shown


def test_a_conversion_says_what_to_feed():
    shown = summary.summary(samples.REPORT)
    line = next(line for line in shown.splitlines() if line.lstrip().startswith("x "))
    for part in ("NCHW", "1x3x8x8", "int8 in -128..127", "0.0078125", "clip(round(x / 0.0078125)"):
        assert part in line
    assert "real = int8 * 0.125" in shown


def test_details_appear_only_when_asked_for():
    assert "identity convolution" not in (summary.summary(samples.REPORT))
    shown = summary.summary(samples.REPORT, verbose=True)
    assert "q2: identity convolution (requantise)" in shown
    assert "1.26 (verify 1.25, clean 0.01)" in shown


def test_a_failed_comparison_is_hard_to_overlook():
    failed = samples.report(verification={**samples.VERIFICATION, "passed": False})
    assert "FAILED" in (summary.summary(failed))


def test_samples_that_change_their_class_are_named_and_near_ties_apart():
    for shown in (
        summary.summary(samples.REPORT),
        summary.verification_summary(samples.VERIFICATION),
        comparison_text(samples.COMPARE),
    ):
        text = " ".join(shown.split())
        assert "argmax of 'logits' kept on 61 of 64 samples, changed on sample 24" in text
        assert "; 3 near ties (samples 3, 20, 49), 2 of them changed" in text


def test_a_conversion_without_comparison_has_no_line_about_it():
    shown = summary.summary(samples.report(verification=None))
    assert "compared on" not in shown


@pytest.mark.parametrize(("largest", "words"), [(0.0, "exact"), (3.0, "no signal")])
def test_an_output_without_qsnr_is_exact_only_if_nothing_differs(largest, words):
    row = {**samples.VERIFICATION["outputs"]["logits"], "qsnr_db": None, "largest": largest}
    verification = {**samples.VERIFICATION, "outputs": {"logits": row}}
    shown = summary.summary(samples.report(verification=verification))
    assert words in shown.split("QSNR")[1][:40]


def test_names_with_brackets_are_not_taken_for_markup():
    source = {**samples.REPORT["source"], "file": "[red]net[/red].onnx"}
    assert "[red]net[/red].onnx" in (summary.summary(samples.report(source=source)))


def test_a_check_names_the_rules_that_could_not_be_decided():
    shown = summary.check_summary(samples.CHECK)
    assert "2 passed, 1 violated: IO-3 (1x)" in shown
    assert "GR-2" in shown
    assert "CV-1" in (summary.check_summary(samples.CHECK, verbose=True))


def test_a_comparison_has_a_row_for_each_map():
    shown = summary.verification_summary(samples.VERIFICATION)
    line = next(line for line in shown.splitlines() if line.lstrip().startswith("logits"))
    for part in ("rescaled", "640", "3", "45.3 dB", "0.999987"):
        assert part in line
    assert "relu_2" in shown


@pytest.mark.parametrize(("asked", "near"), [("io3", "IO-3"), ("CV1", "CV-1")])
def test_an_unknown_rule_is_answered_with_the_nearest_ones(asked, near):
    assert near in summary.unknown_rule(asked, ["IO-3", "CV-1", "SC-8"]).help


def test_a_list_in_a_table_is_written_out():
    assert "a, b" in (summary.table([{"op": "Conv", "attributes": ["a", "b"]}]))
    assert summary.table([]) == "nothing to list"


@pytest.mark.parametrize(("kind", "inputs", "warned"), [
    ("derived", "random inputs, seed 0", True), ("derived", "x.npz", False),
    ("exact", "random inputs, seed 0", False),
])  # fmt: skip
def test_random_inputs_say_little_of_calibrated_maps(kind, inputs, warned):
    [row] = samples.VERIFICATION["maps"]
    maps = [{**row, "class": kind}]
    shown = summary.verification_summary({**samples.VERIFICATION, "inputs": inputs, "maps": maps})
    words = " ".join(shown.split())  # wherever lines are broken
    assert ("beyond the ranges that were calibrated" in words) == warned
    assert "not compared" in shown
