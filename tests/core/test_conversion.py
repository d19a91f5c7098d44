"""Conversions from an imported network, with every real part behind them."""

import json

import onnx_ir as ir
import pytest

from dlaconv.driver.conversion import convert_imported
from dlaconv.errors import ConversionError, UnreadableError
from dlaconv.frontends import Imported
from dlaconv.options import Options
from dlaconv.plugins import Plugins
from tests.ir.scales.graphs import Net


@pytest.fixture
def convert(tmp_path):
    source = tmp_path / "net.toy"
    source.write_text("toy")

    def call(net, **options):
        plugins = Plugins(third_parties=False)
        output = tmp_path / "net.dla.onnx"
        return convert_imported(Imported(net.model), source, output, Options(**options), plugins)

    return call


def chain(channels=16):
    net = Net(0, channels)
    value = net.quantise(net.x, 2.0**-5)
    for _ in range(2):
        value = net.quantise(net.conv(value), 2.0**-4)
    return net.output(value)


def test_a_refusal_names_file_and_layer_and_says_that_nothing_is_written(convert, tmp_path):
    with pytest.raises(ConversionError) as caught:
        convert(chain(channels=8), legalise="off")
    [error] = caught.value.diagnostics.errors
    assert error.rule == "IO-3"
    assert error.location.file == str(tmp_path / "net.toy")
    assert error.location.layer.startswith("conv")
    assert "--allow-violations" in caught.value.advice
    assert [path.name for path in tmp_path.iterdir()] == ["net.toy"]


def test_a_network_that_breaks_a_rule_is_written_if_that_is_allowed(convert, tmp_path):
    conversion = convert(chain(channels=8), allow_violations=True, legalise="off")
    assert conversion.report["rules"]["violated"].keys() == {"IO-3"}
    assert json.loads((tmp_path / "net.dla.json").read_text()) == conversion.report


def test_the_written_file_does_not_hold_where_its_source_lay(convert, tmp_path):
    convert(chain())
    assert str(tmp_path).encode() not in (tmp_path / "net.dla.onnx").read_bytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_report_says_where_the_channels_are(convert, layout):
    net = chain()
    if layout == "NHWC":
        net = Net(0)
        net.x.shape = ir.Shape([1, 8, 8, 16])
        value = net.op("Transpose", net.quantise(net.x, 2.0**-5), perm=[0, 3, 1, 2])
        value = net.quantise(net.conv(value), 2.0**-4)
        net.output(net.op("Transpose", value, perm=[0, 2, 3, 1], shape=(1, 8, 8, 16)))
    io = convert(net, allow_violations=True).report["io"]
    assert [port["layout"] for port in (*io["inputs"], *io["outputs"])] == [layout] * 2
    assert io["inputs"][0]["shape"] == ([1, 8, 8, 16] if layout == "NHWC" else [1, 16, 8, 8])


def test_a_source_that_is_written_to_meanwhile_is_refused(convert, tmp_path, monkeypatch):
    source = tmp_path / "net.toy"
    files = sorted(tmp_path.iterdir())

    def meddle(*_):
        source.write_text("another network")
        return []

    monkeypatch.setattr(Plugins, "rules", meddle)
    with pytest.raises(UnreadableError, match="DLA409"):
        convert(chain())
    assert sorted(tmp_path.iterdir()) == files


def test_a_source_that_is_replaced_meanwhile_does_no_harm(convert, tmp_path, monkeypatch):
    source = tmp_path / "net.toy"

    def remove(*_):
        source.unlink()
        return []

    monkeypatch.setattr(Plugins, "rules", remove)
    assert convert(chain()).output.is_file()
