"""How the command line fails: exit codes, messages, JSON, and nothing left behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlaconv import hookimpl
from dlaconv.cli import run
from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import ConversionError, InternalError
from dlaconv.frontends import Frontend
from dlaconv.plugins import Plugin, Plugins
from tests.core import samples
from tests.core.test_schemas import validate

FINDINGS = [samples.FINDING, Diagnostic("DLA301", "unsupported", "no Softmax")]


@pytest.mark.parametrize(
    ("error", "code", "rule"),
    [
        (ConversionError(FINDINGS), 1, "DLA301"),
        (InternalError("broken", pass_name="fold"), 70, "DLA490"),
        (ZeroDivisionError("1 / 0"), 70, "DLA490"),
        (RecursionError("too deep"), 70, "DLA490"),
        (MemoryError(), 1, "DLA442"),
        (PermissionError(13, "Permission denied", "net.onnx"), 3, "DLA441"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_has_its_exit_code_and_is_a_diagnostic(
    dlaconv, driver, toy, tmp_path, error, code, rule
):
    driver.replace("convert_imported", lambda *_, **__: error)
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out.onnx")
    assert shown.code == code
    assert shown.out == ""
    assert f"error[{rule}]" in shown.err
    assert "Traceback" not in shown.err
    as_json = dlaconv("from-toy", toy, "-o", tmp_path / "out.onnx", "--json")
    document = json.loads(as_json.out)
    validate("diagnostics", document)
    assert document["exit_code"] == as_json.code == code
    assert rule in [item["rule"] for item in document["diagnostics"]]


def test_a_bug_of_ours_asks_to_be_reported(dlaconv, driver, toy, tmp_path):
    driver.replace("convert_imported", lambda *_, **__: ZeroDivisionError("division by zero"))
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out.onnx")
    assert (
        "ZeroDivisionError: division by zero; this is a bug in dlaconv, please report" in shown.err
    )
    assert "--debug" in shown.err


@pytest.mark.parametrize("arguments", [["--debug", "from-toy"], ["from-toy", "--debug"]])
def test_debug_shows_the_traceback(dlaconv, driver, toy, tmp_path, arguments):
    driver.replace("convert_imported", lambda *_, **__: ZeroDivisionError("1 / 0"))
    shown = dlaconv(*arguments, toy, "-o", tmp_path / "out.onnx")
    assert shown.code == 70
    assert "Traceback" in shown.err


def test_all_findings_are_printed(dlaconv, driver, toy, tmp_path):
    driver.replace("convert_imported", lambda *_, **__: ConversionError(FINDINGS))
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out.onnx")
    assert str(samples.FINDING) in shown.err
    assert "no Softmax" in shown.err
    quiet = dlaconv("from-toy", toy, "-o", tmp_path / "out.onnx", "-q")
    assert "no Softmax" in quiet.err
    assert "IO-3" not in quiet.err


def test_ctrl_c_ends_with_130_and_leaves_nothing(dlaconv, driver, toy, tmp_path):
    inputs = tmp_path / "x.npz"
    np.savez(inputs, x=np.zeros(1))
    driver.replace("run_file", lambda *_, **__: KeyboardInterrupt())
    shown = dlaconv("run", toy, "--input", inputs, "--output", tmp_path / "y.npz")
    assert shown.code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.toy", "x.npz"]


def test_ctrl_c_while_writing_leaves_nothing(dlaconv, driver, toy, tmp_path, monkeypatch):
    inputs = tmp_path / "x.npz"
    np.savez(inputs, x=np.zeros(1))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    shown = dlaconv("run", toy, "--input", inputs, "--output", tmp_path / "y.npz")
    assert shown.code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.toy", "x.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_end_cleans_up(tmp_path, name):
    script = f"""
import os, signal
from pathlib import Path
signal.signal(signal.{name}, signal.SIG_DFL)  # whatever started the tests may ignore it
import dlaconv.cli
from dlaconv.files import staging

def convert(*_, **__):
    with staging(Path({str(tmp_path)!r})):
        os.kill(os.getpid(), signal.{name})

dlaconv.cli.run = convert
dlaconv.cli.main([])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (128 + getattr(signal, name), b"")
    assert not list(tmp_path.iterdir())


USAGE = {
    "unknown command": ["chek"],
    "unknown option": ["plugins", "--colour"],
    "missing option": ["from-toy", "TOY"],
    "missing argument": ["check"],
    "no choice": ["from-toy", "TOY", "-o", "OUT", "--io", "pinned"],
    "no number": ["from-toy", "TOY", "-o", "OUT", "--samples", "few"],
    "no sample": ["from-toy", "TOY", "-o", "OUT", "--samples", "0"],
    "nothing to absorb": [
        *["from-toy", "TOY", "-o", "OUT"],
        *["--scale-policy", "nearest", "--io", "absorb"],
    ],
    "nothing to sample": ["from-toy", "TOY", "-o", "OUT", "--no-verify", "--samples", "2"],
    "no shape": ["from-toy", "TOY", "-o", "OUT", "--set-shape", "x=3,a"],
    "no name": ["from-toy", "TOY", "-o", "OUT", "--set-shape", "1,3"],
    "empty shape": ["from-toy", "TOY", "-o", "OUT", "--set-shape", "x=0,3"],
    "two shapes": ["from-toy", "TOY", "-o", "OUT", "--set-shape", "x=1,3", "--set-shape", "x=1,4"],
    "unknown format": ["convert", "TOY", "-o", "OUT", "--from", "caffe"],
    "too many files": ["convert", "TOY", "TOY", "-o", "OUT"],
    "output is the source": ["from-toy", "TOY", "-o", "TOY"],
    "output has no folder": ["from-toy", "TOY", "-o", "OUT/x/y"],
    "two formats": ["check", "TOY", "--json", "--format", "text"],
    "samples and inputs": ["verify", "TOY", "TOY", "--input", "x.npz", "--samples", "4"],
    "seed and inputs": ["verify", "TOY", "TOY", "--input", "x.npz", "--seed", "4"],
    "output is the input": ["run", "TOY", "--input", "TOY", "-o", "TOY"],
    "quiet and verbose": ["plugins", "-q", "-v"],
    "unknown rule": ["rule", "IO3"],
}


@pytest.mark.parametrize("kind", USAGE)
def test_wrong_usage_ends_with_2_and_a_diagnostic(dlaconv, driver, toy, tmp_path, kind):
    names = {"TOY": toy, "OUT": tmp_path / "out"}
    arguments = []
    for word in USAGE[kind]:
        head, _, tail = word.partition("/")
        arguments.append(
            f"{names[head]}/{tail}" if tail and head in names else names.get(word, word)
        )
    shown = dlaconv(*arguments)
    assert shown.code == 2
    assert shown.out == "" or "--json" in arguments
    assert shown.err.startswith("error[DLA4")
    assert driver.calls == []
    document = json.loads(dlaconv(*arguments, "--json").out)
    validate("diagnostics", document)
    assert [path.name for path in tmp_path.iterdir()] == ["net.toy"]


def test_every_impossible_combination_is_named_at_once(dlaconv, driver, toy, tmp_path):
    shown = dlaconv(
        *["from-toy", toy, "-o", tmp_path / "out", "--scale-policy", "nearest", "--io", "absorb"],
        *["--no-verify", "--samples", "3", "--set-shape", "x", "--set-shape", "y="],
    )
    assert shown.code == 2
    assert shown.err.count("error[") == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["from-toy", "missing.toy", "-o", "out"],
        ["from-qonnx", "missing.onnx", "-o", "out"],
        ["convert", "missing.toy", "-o", "out"],
        ["convert", "X", "-o", "out"],
        ["check", "missing.onnx"],
        ["run", "X", "--input", "missing.npz", "-o", "out"],
        ["verify", "missing.onnx", "X"],
        ["verify", "X", "missing.onnx"],
    ],
    ids=" ".join,
)
def test_an_unreadable_file_ends_with_3(dlaconv, driver, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "X").write_text("neither a network nor an archive")
    shown = dlaconv(*arguments)
    assert (shown.code, shown.out) == (3, "")
    assert shown.err.count("error[DLA4") == 1
    assert driver.calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["X"]


class Failing:
    """A plugin whose frontend fails in a way of its own."""

    def __init__(self, load):
        self.load = load

    @hookimpl
    def register_frontends(self):
        return [Frontend("bad", "Convert bad files.", self.load)]


def fails(path):
    raise KeyError("weights")


def returns_nothing(path):
    return None


@pytest.mark.parametrize("load", [fails, returns_nothing])
def test_a_failing_plugin_is_blamed_by_name(toy, tmp_path, capsys, load):
    plugins = Plugins(third_parties=False)
    plugins.add(Failing(load), Plugin("bad", "dlaconv-bad 1.0"))
    assert run(["from-bad", str(toy), "-o", str(tmp_path / "out")], plugins) == 2
    shown = capsys.readouterr().err
    assert "error[DLA453]" in shown
    assert "'bad' of dlaconv-bad 1.0" in shown


def test_a_name_in_a_file_cannot_take_over_the_terminal(dlaconv, driver, toy, tmp_path):
    bad = Diagnostic("DLA301", "unsupported", "node \x1b[2J\x07 is bad")
    driver.replace("convert_imported", lambda *_, **__: ConversionError(bad))
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out.onnx")
    assert "\x1b" not in shown.err
    assert "node \\x1b[2J\\x07 is bad" in shown.err


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_no_failure(closed):
    command = f"{sys.executable} -m dlaconv ops {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_standard_output_is_a_diagnostic_in_json_too():
    command = f"{sys.executable} -m dlaconv ops --json > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "error[DLA441]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("policy", ["nearest", "ceil", "mse"])
def test_policies_of_power_of_two_maps_absorb_nothing(dlaconv, toy, tmp_path, policy):
    options = ["--scale-policy", policy, "--io", "absorb"]
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out", *options)
    assert shown.code == 2
    assert f"--scale-policy {policy} and --io absorb do not go together" in shown.err
