"""On how many samples a conversion is compared with its source."""

import pytest

import dlaconv
from dlaconv.options import Options
from tests.core.test_channels_and_signs import Source


@pytest.mark.parametrize(
    ("asked", "macs", "count"),
    [
        (None, 0, 4),
        (None, 4_000_000_000, 4),
        (None, 4_100_000_000, 3),
        (None, 15_500_000_000, 1),
        (None, 99_000_000_000, 1),
        (7, 99_000_000_000, 7),
        (1, 0, 1),
    ],
)
def test_large_networks_take_fewer_samples_unless_their_number_is_given(asked, macs, count):
    assert Options(samples=asked).compared_samples(macs) == count


def test_the_report_says_on_how_many_samples_a_network_was_compared(tmp_path, monkeypatch):
    net = Source(0)
    net.quant("x", "q0", 2.0**-5)
    net.quant(net.conv("q0", "c1", net.weights("w1", 2.0**-6, 8)), "y", 2.0**-2)
    source = net.save(tmp_path, "y")
    report = dlaconv.convert(source, None).report
    assert report["verification"]["samples"] == 4
    macs = report["summary"]["macs"]["source"]
    monkeypatch.setattr("dlaconv.options._MOST_MACS", 3 * macs - 1)
    report = dlaconv.convert(source, None).report
    assert report["verification"]["samples"] == 2
    assert report["options"]["samples"] is None
    report = dlaconv.convert(source, None, options=Options(samples=3)).report
    assert report["verification"]["samples"] == report["options"]["samples"] == 3
