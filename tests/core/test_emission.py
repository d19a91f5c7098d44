"""``--emit``: what is written beside a converted file, and that it holds the file's integers."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import dlaconv
from dlaconv.backends.access.simulator import Simulator
from dlaconv.driver import emission as driver
from dlaconv.driver.facts import quantise_inputs
from dlaconv.driver.reading import load_target, read_network
from dlaconv.errors import ConversionError, UsageError
from dlaconv.ir.rounding import Rounding
from dlaconv.options import EMITTED, Options
from tests.backends.access import twins
from tests.core.test_schemas import validate
from tests.networks import Style, chain, residual, varied

POWERS = Style(power_of_two=True, bias="16")


class Emitted:
    """A conversion with everything beside it."""

    def __init__(self, folder, built, **options):
        source, self.file = folder / "net.onnx", folder / "net.dla.onnx"
        onnx.save(built.model, source)
        chosen = {"verify": False, "allow_violations": True, "emit": EMITTED} | options
        self.options = Options(**chosen)
        self.conversion = dlaconv.convert(source, self.file, options=self.options)
        self.network, self.facts = read_network(self.file, load_target(None))
        self.samples = built.samples

    def feeds(self, index):
        """One sample: real values, and the integers that the host makes of them."""
        reals = {name: array[index : index + 1] for name, array in self.samples.items()}
        return reals, quantise_inputs(
            self.network, reals, self.facts, Rounding(self.options.rounding)
        )

    def model(self, kind):
        return ir.load(self.conversion.emitted[kind])


@pytest.mark.parametrize("io", ["pin", "absorb"])
@pytest.mark.parametrize(
    ("make", "style", "options"),
    [
        (lambda style: chain(4, 0, style), Style(), {}),
        (lambda style: chain(4, 0, style), Style(), {"convention": "int-per-real"}),
        (lambda style: residual(2, 1, style), Style(unsigned=True), {}),
        (lambda style: residual(2, 1, style), Style(unsigned=True), {"unsigned_maps": True}),
        (lambda style: varied(2, style), Style(per_channel=False), {}),
        (lambda style: varied(2, style), POWERS, {}),
    ],
    ids=["chain", "int-per-real", "unsigned source", "unsigned maps", "varied", "powers"],
)
def test_each_layer_of_the_twin_is_within_one_unit_of_the_simulator(
    tmp_path, make, style, options, io
):
    result = Emitted(tmp_path, make(style), io=io, **options)
    twin = result.model("qdq")
    onnx.checker.check_model(ir.to_proto(twin), full_check=True)
    simulator = Simulator(result.network, fetch="all")
    whole = twins.session(twins.exposed(twin))
    differing = count = accumulated = 0
    for index in range(4):
        reals, integers = result.feeds(index)
        maps = integers | simulator.run(integers)
        local = twins.run_cut(twin, maps, reals)
        assert local.keys() == maps.keys()
        for name, found in local.items():
            off = np.abs(found - maps[name].astype(np.int64))
            assert off.max() <= 1, name
            differing += int(off.sum())
            count += off.size
        for name, found in twins.integers_of(whole, reals).items():
            accumulated += int((found != maps[name]).sum())
    assert count > 30_000
    assert differing <= count / 1000
    if style is POWERS or "convention" in options:  # weight steps of finite binary expansion
        assert (differing, accumulated) == (0, 0)


@pytest.mark.parametrize("io", ["pin", "absorb"])
@pytest.mark.parametrize("rounding", ["half-even", "floor", "half-dpu"])
@pytest.mark.parametrize("unsigned_maps", [False, True])
def test_the_simulation_gives_the_bits_of_a_run(tmp_path, io, rounding, unsigned_maps):
    style = Style(unsigned=True)
    options = {"io": io, "rounding": rounding, "unsigned_maps": unsigned_maps}
    result = Emitted(tmp_path, residual(1, 3, style), **options)
    stacked = {name: array[:3] for name, array in result.samples.items()}
    wanted = dlaconv.run(result.file, stacked, hardware=dlaconv.Hardware(rounding), as_float=True)
    path = result.conversion.emitted["sim"]
    onnx.checker.check_model(str(path), full_check=True)
    for level in (twins.PLAIN, twins.FULL):
        session_options = onnxruntime.SessionOptions()
        session_options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(path, session_options)
        names = [item.name for item in session.get_outputs()]
        assert names == list(wanted)
        for index in range(3):
            found = session.run(names, result.feeds(index)[0])
            for name, array in zip(names, found, strict=True):
                np.testing.assert_array_equal(array[0], wanted[name][index])


def test_the_twin_gives_the_real_values_of_a_run(tmp_path):
    """The source's step is no power of two here: the hardware's value is not the real one."""
    result = Emitted(tmp_path, chain(2, 5), io="absorb")
    io = result.conversion.report["io"]
    assert all(port["scale"] != port["real_step"] for port in (*io["inputs"], *io["outputs"]))
    stacked = {name: array[:1] for name, array in result.samples.items()}
    wanted = dlaconv.run(result.file, stacked, as_float=True)["output"]
    step = io["outputs"][0]["real_step"]
    (found,) = twins.session(result.model("qdq")).run(None, stacked)
    off = np.abs(found - wanted) / step
    assert off.max() < 1.01
    assert (off > 0.01).mean() < 0.02


# Files


def test_everything_is_beside_the_file_and_in_the_report(tmp_path):
    result = Emitted(tmp_path, chain(1, 0))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "net.onnx", "net.dla.onnx", "net.dla.json", "net.dla.qdq.onnx", "net.dla.sim.onnx",
    }  # fmt: skip
    report = json.loads((tmp_path / "net.dla.json").read_text())
    validate("report", report)
    assert report["output"] == {
        "file": str(result.file),
        "emitted": {kind: str(tmp_path / f"net.dla.{kind}.onnx") for kind in EMITTED},
        "further": [],
    }
    assert report["options"]["emit"] == ["qdq", "sim"]
    assert result.conversion.emitted == {k: tmp_path / f"net.dla.{k}.onnx" for k in EMITTED}
    for kind in EMITTED:
        model = result.model(kind)
        assert model.metadata_props["dlaconv.source"] == "net.onnx"
        assert "dlaconv.maps" not in model.metadata_props
        assert str(tmp_path).encode() not in (tmp_path / f"net.dla.{kind}.onnx").read_bytes()


@pytest.mark.parametrize("emit", [(), ("qdq",), ["sim"], ("sim", "qdq", "sim")])
def test_only_what_was_asked_for_is_written(tmp_path, emit):
    result = Emitted(tmp_path, chain(1, 0), emit=emit)
    found = {path.name.split(".")[-2] for path in tmp_path.glob("net.dla.*.onnx")}
    assert found == set(emit) == set(result.conversion.emitted)


def test_nothing_is_written_on_a_refusal(tmp_path):
    built = chain(2, 0, channels=8)
    onnx.save(built.model, tmp_path / "net.onnx")
    options = Options(verify=False, emit=EMITTED, legalise="off")
    with pytest.raises(ConversionError, match="IO-3"):
        dlaconv.convert(tmp_path / "net.onnx", tmp_path / "net.dla.onnx", options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("failure", [MemoryError, KeyboardInterrupt])
def test_all_files_are_put_in_place_or_none(tmp_path, monkeypatch, failure):
    def emitted(kind, *arguments):
        if kind == "sim":
            raise failure
        return real(kind, *arguments)

    real = driver.emitted
    monkeypatch.setattr(driver, "emitted", emitted)
    with pytest.raises(failure):
        Emitted(tmp_path, chain(1, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("kind", EMITTED)
def test_an_input_is_never_overwritten(tmp_path, kind):
    source = tmp_path / f"net.{kind}.onnx"
    onnx.save(chain(1, 0).model, source)
    before = source.read_bytes()
    with pytest.raises(UsageError, match=r"DLA421.*overwrite an input"):
        dlaconv.convert(source, tmp_path / "net.onnx", options=Options(emit=(kind,)))
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("name", ["net.dla.onnx", "net.dla.json", "net.dla.sim.onnx"])
def test_external_data_of_the_input_is_never_overwritten(tmp_path, name):
    source, output = tmp_path / "net.onnx", tmp_path / "net.dla.onnx"
    save = {"save_as_external_data": True, "location": name, "size_threshold": 100}
    onnx.save(chain(1, 0).model, source, **save)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UsageError, match=r"DLA421.*overwrite an input"):
        dlaconv.convert(source, output, options=Options(emit=("sim",)))
    assert (tmp_path / name).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", name}


def test_a_folder_in_the_way_is_found_before_any_work(tmp_path):
    onnx.save(chain(1, 0).model, tmp_path / "net.onnx")
    (tmp_path / "net.dla.qdq.onnx").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        dlaconv.convert(
            tmp_path / "net.onnx", tmp_path / "net.dla.onnx", options=Options(emit=("qdq",))
        )


# Options


@pytest.mark.parametrize("emit", [("std",), "qdq"])
def test_only_known_kinds_can_be_asked_for(emit):
    with pytest.raises(UsageError, match="choose one of qdq, sim"):
        Options(emit=emit)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ()),
        ({"rounding": "floor"}, ("--rounding floor",)),
        ({"activation_order": "after-clamp"}, ()),  # a Relu gives the same integers both ways
    ],
)
def test_a_twin_that_cannot_follow_the_hardware_says_so(tmp_path, options, said):
    result = Emitted(tmp_path, chain(2, 0), **options)
    found = [item.message for item in result.conversion.diagnostics if item.rule == "DLA905"]
    assert len(found) == len(said)
    assert all(text in message for text, message in zip(said, found, strict=True))
    assert all(item["rule"] != "DLA905" or said for item in result.conversion.report["diagnostics"])


def test_only_the_twin_is_warned_about(tmp_path):
    result = Emitted(tmp_path, chain(1, 0), emit=("sim",), rounding="floor")
    assert not [item for item in result.conversion.diagnostics if item.rule == "DLA905"]


def test_the_command_line_takes_several(dlaconv, driver, toy, tmp_path):
    call = ["from-toy", toy, "-o", tmp_path / "net.dla.onnx"]
    shown = dlaconv(*call, "--emit", "qdq", "--emit", "sim", "--emit", "qdq")
    assert shown.code == 0
    assert driver.calls[0][1][3].emit == ("qdq", "sim")
    assert "net.dla.qdq.onnx" in shown.out
    shown = dlaconv(*call, "--emit", "std")
    assert shown.code == 2
    assert "std" in shown.err
