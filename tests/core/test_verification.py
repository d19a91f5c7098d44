from types import SimpleNamespace

import numpy as np
import pytest

import dlaconv
from dlaconv.driver.facts import gain_error
from dlaconv.driver.float_noise import settle_signs
from dlaconv.driver.map_sources import find_source, with_moved_errors
from dlaconv.driver.verification import Verification
from dlaconv.ir.compare import Comparison, MapRow
from dlaconv.ir.layers import Map
from dlaconv.options import Options
from tests.core.test_channels_and_signs import CHANNELS, Source


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


def test_an_input_that_is_returned_is_compared_too_and_given_to_its_layers(tmp_path):
    net = Source(0)
    net.quant("x", "q0", 2.0**-5)
    net.quant(net.conv("q0", "c1", net.weights("w1", 2.0**-6, 8)), "y", 2.0**-2)
    options = Options(samples=2, rounding="floor")
    report = dlaconv.convert(net.save(tmp_path, "y", "q0"), None, options=options).report
    found = report["verification"]
    assert found["passed"]
    assert {row["name"] for row in found["maps"]} == {"x", "q0", "y"}
    assert not found["unmatched"]


@pytest.mark.parametrize(
    ("before", "got", "settled"),
    [
        (-1e-8, 1.0, 1.0),  # the exact sum is zero
        (-1e-8, -1.0, -1.0),
        (-1e-4, 1.0, -1.0),  # not noise
        (1e-8, -1.0, 1.0),  # the hardware is wrong: neither zero nor noise is negative
        (0.0, -1.0, 1.0),
    ],
)
def test_only_signs_of_float_noise_are_the_hardware_s_to_take(before, got, settled):
    before = np.array([before, 3.0, -2.0])
    wanted = np.where(before >= 0, 1.0, -1.0)
    found = settle_signs(wanted, np.array([got, -1.0, 1.0]), before)
    assert found.tolist() == [settled, 1.0, -1.0]


def test_signs_of_float_noise_are_no_difference(tmp_path):
    net = Source(0)
    net.quant("x", "q0", 2.0**-6)
    net.sign(net.conv("q0", "c1", net.weights("w1", 2.0**-6, 8)), "s1", 0.37)
    net.constant("w2_raw", net.random.choice([-0.01, 0.01], (16, 16, 3, 3)))
    net.op("Conv", ["s1", net.quant("w2_raw", "w2", 0.01, narrow=1)], "c2", kernel_shape=[3, 3])
    net.sign("c2", "s2")
    net.quant(net.conv("s2", "c3", net.binary("w3", 0.125)), "y", 0.125)
    report = dlaconv.convert(net.save(tmp_path, "y"), None, options=Options(samples=8)).report
    assert report["verification"]["passed"]


def test_an_input_quantised_twice_is_tried_where_the_finer_one_clips(tmp_path):
    net = Source(0)
    for index, step in enumerate((2.0**-6, 2.0**-4)):
        fed = net.quant("x", f"q{index}", step)
        net.conv(fed, f"c{index}", net.weights(f"w{index}", 2.0**-6, 8))
        net.quant(f"c{index}", f"y{index}", 2.0**-2)
    source, target = net.save(tmp_path, "y0", "y1"), tmp_path / "net.dla.onnx"
    conversion = dlaconv.convert(source, target, options=Options(samples=2))
    assert not conversion.report["verification"]["passed"]
    found = dlaconv.verify(source, target, samples=2)
    assert {row.about.name for row in found.rows if not row.explained} == {"q1"}
    assert {row.about.fidelity for row in found.rows if not row.explained} == {"clipped"}


@pytest.mark.parametrize("after", [0.0, 0.5])
def test_layers_behind_an_input_that_the_source_does_not_quantise_are_given_its_values(
    tmp_path, after
):
    """Its rounding is the format's, and no error of the layer that reads it."""
    net = Source(0)
    read = net.op("LeakyRelu", ["x"], "a", alpha=after) if after else "x"
    net.quant(net.conv(read, "c1", net.weights("w1", 2.0**-6, 8)), "y", 2.0**-3)
    data = tmp_path / "x.npz"
    np.savez(data, x=net.random.normal(size=(8, CHANNELS, 10, 10)).astype(np.float32))
    source, target = net.save(tmp_path, "y"), tmp_path / "net.dla.onnx"
    found = dlaconv.convert(source, target, options=Options(calibrate=data)).report["verification"]
    assert found["passed"]
    assert found["unmatched"] == ["x"]
    assert dlaconv.verify(source, target, inputs=data).passed


def test_a_moved_map_is_as_far_off_as_what_is_moved_if_the_source_does_not_have_it():
    moved, matched = Map("moved", 0, (1, 2, 4, 4)), Map("matched", 0, (1, 2, 4, 4))
    facts = {
        "moved": {"source_step": 2.0, "rounding": "floor", "step_errors": [0.0, -0.25]},
        "matched": {"source_step": 4.0, "bias_error": 1.0},
    }
    pool = SimpleNamespace(op="MaxPool", inputs=(moved,), output=Map("p", 0, (1, 2, 2, 2)))
    own = {"real_step": 1.0}
    found = with_moved_errors(own, pool, ["matched"], facts)
    errors = {"source_step": 2.0, "rounding": "floor", "step_errors": [0.25, 0.25]}
    assert found == own | errors
    assert with_moved_errors(own, pool, ["matched", "moved"], facts) == own
    pool.op = "AveragePool"
    assert with_moved_errors(own, pool, [], facts) == own
    join = SimpleNamespace(op="Concat", inputs=(moved, matched), output=Map("j", 0, (1, 4, 4, 4)))
    assert with_moved_errors(own, join, ["matched"], facts) == own | errors | {
        "step_errors": [0.25] * 4
    }


def averaged(net, step):
    """The average of an unsigned map, flattened and then rounded, and what a layer makes of it.

    A hundred values, so that the step of their sum is 64 times theirs.
    """
    net.quant("x", "q0", 2.0**-5)
    net.quant(net.op("Relu", [net.conv("q0", "c1", net.weights("w1", 2.0**-6, 8))], "r1"), "q1",
              step, signed=0)  # fmt: skip
    net.op("GlobalAveragePool", ["q1"], "mean")
    net.constants["flat"] = np.array([1, -1], np.int64)
    net.quant(net.op("Reshape", ["mean", "flat"], "v"), "q2", 0.64 * step, signed=0)
    raw = net.random.normal(size=(4, CHANNELS)) * 2.0**-4
    net.quant(net.constant("w2_raw", raw), "w2", 0.003, 8, narrow=1)
    net.quant(net.op("Gemm", ["q2", "w2"], "c2", transB=1), "y", 0.031)


@pytest.mark.parametrize("legalise", ["exact", "off"])
def test_an_average_that_the_hardware_sums_is_compared_with_the_average(tmp_path, legalise):
    """Its step is doubled, and the layer behind it is judged by what it is fed, not by that."""
    net = Source(3)
    averaged(net, 0.01)
    options = Options(samples=8, legalise=legalise, allow_violations=True)
    file = tmp_path / "net.dla.onnx"
    source = net.save(tmp_path, "y")
    report = dlaconv.convert(source, file, options=options).report
    rewritten = any(row["name"] == "global_average_sum" for row in report["rewrites"])
    assert rewritten is (legalise == "exact")
    found = report["verification"]
    assert found["passed"]
    rows = [row for row in found["maps"] if row["local"]["count"] == 8 * CHANNELS]
    assert rows
    for row in rows:
        assert row["real_step"] == pytest.approx(2 * 0.0064)
        assert 0 < row["local"]["largest"] <= 0.5
        assert row["accumulated"]["qsnr_db"] > 20
    again = dlaconv.verify(source, file, samples=8)  # by what the file says
    assert [r.as_json() for r in again.rows] == found["maps"]


def test_gains_of_a_sum_that_are_not_met_widen_what_roundings_explain():
    facts = {
        "sum": {"gain_errors": {"a": 2e-3, "b": -1e-3}},
        "a": {"clip": [0.0, 25.5], "real_step": 0.1},
        "b": {"real_step": 0.1},
    }
    maps = {name: Map(name, -3, (1, 4)) for name in facts}
    network = SimpleNamespace(maps=maps)
    assert gain_error(facts["sum"], facts, network) == pytest.approx(2e-3 * 255 + 1e-3 * 128)


@pytest.mark.parametrize(
    ("clip", "output", "advice"),
    [
        ((-101.6, 101.6), True, "--io absorb"),
        ((-101.6, 101.6), False, "all 8 bits"),
        ((-111.2, 92.8), True, "without a zero point"),
        ((0.0, 102.0), True, "--io absorb"),
    ],
)
def test_a_lost_clip_comes_with_advice_that_keeps_it(clip, output, advice):
    row = MapRow(Comparison("map", "fc", "rescaled", 0.5, -128, 127, clip=clip, source_step=0.8))
    wanted = np.array([[clip[1], 0.0]])
    row.add(wanted, wanted, wanted + np.array([9.0, 0.0]))
    found = Verification([row], ("map",) if output else (), 1, "half-even", "random inputs")
    [finding] = found.diagnostics()
    assert finding.rule == "DLA904"
    assert advice in finding.help


def test_an_input_that_is_rounded_before_it_is_turned_is_compared_too():
    fact = {"tensor": "image/quantised"}
    found = find_source("pixels/layout_0_3_1_2", fact, (1, 1, 8, 8), {"image", "pixels"})
    assert found is not None
    assert (found.name, found.permutation) == ("pixels", (0, 3, 1, 2))
    derived = {"tensor": "pixels/layout_0_3_1_2/derived/out"}
    assert find_source("pixels/layout_0_3_1_2", derived, (1, 1, 8, 8), {"pixels"}) is None
