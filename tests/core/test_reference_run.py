"""``--verify-with``: comparing what was read of a source with a program that runs the source."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import dlaconv
from dlaconv import hookimpl
from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError, PluginError, UnreadableError, UsageError
from dlaconv.frontends import Frontend, Imported
from dlaconv.ir import dialect
from dlaconv.ir.quantisation import Quantisation
from dlaconv.options import Options
from dlaconv.plugins import Plugin, Plugins

STEP = 1 / 64


class Doubling:
    """A plugin: a network of one sum, y = x + x, and the program ``other`` that runs it."""

    def __init__(self, run, *, quantised=True, shape=("n", 16)):
        self.run, self.quantised, self.shape = run, quantised, shape
        self.seen = []

    @hookimpl
    def register_frontends(self):
        def load(path: Path, *, gain: float = 1.0):
            x = ir.val("x", ir.DataType.FLOAT, ir.Shape(self.shape))
            nodes = []
            given = x
            if self.quantised:
                nodes = [dialect.quantize(x, Quantisation.of(STEP, bits=8), name="q")]
                given = nodes[0].outputs[0]
            nodes.append(ir.node("Add", [given, given], name="s"))
            [y] = nodes[-1].outputs
            y.name, y.dtype = "y", ir.DataType.FLOAT
            graph = ir.Graph([x], [y], nodes=nodes, opset_imports={"": 18}, name="g")
            if self.quantised:
                from dlaconv.ir.graph import register_constants

                register_constants(graph, nodes)
            return Imported(ir.Model(graph, ir_version=10))

        def other(path: Path, *, inputs, gain: float = 1.0):
            self.seen.append((path, gain, inputs))
            return self.run(*inputs)

        return [
            Frontend("doubling", "Doubles.", load, references={"other": other}),
            Frontend("plain", "Doubles.", load),
        ]


def rounded(x):
    return np.round(x / STEP) * STEP


def convert(tmp_path, plugin, *, frontend="doubling", output=None, gain=1.0, **options):
    source = tmp_path / "net.toy"
    source.touch()
    plugins = Plugins(third_parties=False)
    plugins.add(plugin, Plugin("doubling", "1.0"))
    chosen = Options(**{"verify_with": "other", "partition": True, **options})
    return dlaconv.convert(
        source, output, frontend=frontend, options=chosen, plugins=plugins, gain=gain
    )


def test_a_source_that_is_read_rightly_is_reported(tmp_path):
    plugin = Doubling(lambda x: [2 * rounded(x)])
    output = tmp_path / "net.dla.onnx"
    converted = convert(tmp_path, plugin, output=output, gain=2.0)
    expected = {"program": "other", "samples": 4, "largest": 0.0, "allowed": 0.02}
    assert converted.report["reference"] == expected
    assert json.loads((tmp_path / "net.dla.json").read_text())["reference"] == expected
    [(path, gain, [x])] = plugin.seen
    assert (path.name, gain, x.shape) == ("net.toy", 2.0, (4, 16))
    assert len(np.unique(x)) > 32


def test_without_the_option_the_source_is_not_run(tmp_path):
    plugin = Doubling(lambda x: [2 * rounded(x)])
    assert convert(tmp_path, plugin, verify_with=None).report["reference"] is None
    assert plugin.seen == []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda x: [2.1 * rounded(x)], "output 'y': it is off by"),
        (lambda x: [np.full_like(x, np.nan)], "off by nan"),
        (lambda x: [2 * rounded(x)[:, :8]], "its shape is [8] in place of [16]"),
        (lambda x: [2 * rounded(x)] * 2, "there are 2 outputs in place of 1 (y)"),
        (lambda x: [], "there are 0 outputs in place of 1 (y)"),
    ],
)
def test_a_source_that_is_read_wrongly_is_not_converted(tmp_path, run, said):
    output = tmp_path / "net.dla.onnx"
    with pytest.raises(ConversionError) as caught:
        convert(tmp_path, Doubling(run), output=output)
    [found] = caught.value.diagnostics
    assert found.rule == "DLA908"
    assert said in found.message
    assert not output.exists()


@pytest.mark.parametrize(("share", "fits"), [(1e-4, True), (5e-3, False)])
def test_a_network_that_rounds_nothing_must_be_nearer(tmp_path, share, fits):
    plugin = Doubling(lambda x: [2 * x * (1 + share)], quantised=False)
    if fits:
        found = convert(tmp_path, plugin, calibrate="random").report["reference"]
        assert found["allowed"] == 0.001
        assert found["largest"] == pytest.approx(share, rel=0.01)
    else:
        with pytest.raises(ConversionError):
            convert(tmp_path, plugin, calibrate="random")
        convert(tmp_path, Doubling(lambda x: [2 * rounded(x) * (1 + share)]))


def test_the_users_samples_are_taken(tmp_path):
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16)
    np.savez(tmp_path / "x.npz", x=x)
    plugin = Doubling(lambda x: [2 * rounded(x)])
    found = convert(tmp_path, plugin, calibrate=tmp_path / "x.npz", samples=2)
    assert found.report["reference"]["samples"] == 2
    assert np.array_equal(plugin.seen[0][2][0], x[:2])


def test_open_shapes_are_those_of_the_conversion(tmp_path):
    plugin = Doubling(lambda x: [2 * rounded(x)], shape=("n", "m"))
    convert(tmp_path, plugin, shapes={"x": (1, 32)})
    assert plugin.seen[0][2][0].shape == (4, 32)
    with pytest.raises(ConversionError) as caught:
        convert(tmp_path, plugin)
    assert [found.rule for found in caught.value.diagnostics] == ["DLA311"]


@pytest.mark.parametrize(
    ("frontend", "program", "remedy"),
    [("doubling", "caffe", "choose other"), ("plain", "other", "leave it out")],
)
def test_a_program_that_there_is_not_is_a_mistake(tmp_path, frontend, program, remedy):
    with pytest.raises(UsageError) as caught:
        convert(tmp_path, Doubling(None), frontend=frontend, verify_with=program)
    [found] = caught.value.diagnostics
    assert (found.rule, found.help) == ("DLA426", remedy)
    assert repr(program) in found.message


def test_what_a_program_says_reaches_the_user(tmp_path):
    def absent(x):
        raise UnreadableError(Diagnostic("TOY1", "absent", "it is not installed"))

    with pytest.raises(UnreadableError) as caught:
        convert(tmp_path, Doubling(absent))
    assert [found.rule for found in caught.value.diagnostics] == ["TOY1"]
    with pytest.raises(PluginError) as failed:
        convert(tmp_path, Doubling(lambda x: 1 / 0))
    convert(tmp_path, Doubling(lambda x: [(2 * rounded(x)).tolist()]))
    assert "other: ZeroDivisionError" in str(failed.value)
