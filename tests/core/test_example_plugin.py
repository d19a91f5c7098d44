"""The plugin in ``examples/plugin``, in this process and installed into an environment."""

import importlib.util
import json
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from dlaconv.cli import run
from dlaconv.plugins import Plugin, Plugins
from tests.core.test_schemas import validate

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugin"
NET = EXAMPLE / "net.tiny"


@pytest.fixture
def tiny():
    spec = importlib.util.spec_from_file_location("dlaconv_tiny", EXAMPLE / "dlaconv_tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugins = Plugins(third_parties=False)
    plugins.add(module, Plugin("tiny", "dlaconv-tiny 1.0"))
    return plugins


def test_the_example_is_as_short_as_promised():
    files = [EXAMPLE / "dlaconv_tiny.py", EXAMPLE / "pyproject.toml"]
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) < 60


@pytest.mark.parametrize("relu", [[], ["--relu"]])
def test_the_example_converts_and_every_document_is_valid(tiny, tmp_path, capsys, relu):
    output, inputs, results = tmp_path / "net.onnx", tmp_path / "x.npz", tmp_path / "y.npz"
    assert run(["from-tiny", str(NET), "-o", str(output), "--json", *relu], tiny) == 0
    report = json.loads(capsys.readouterr().out)
    validate("report", report)
    assert report["summary"]["weights"] == {"kept": 1, "requantised": 0, "derived": 0}
    assert json.loads(output.with_suffix(".json").read_text("utf-8")) == report
    assert run(["check", str(output), "--json"], tiny) == 0
    validate("check", json.loads(capsys.readouterr().out))
    if not relu:
        assert run(["verify", str(NET), str(output), "--json"], tiny) == 0
        validate("verify", json.loads(capsys.readouterr().out))
    np.savez(inputs, x=np.arange(-16, 16, dtype=np.int8).reshape(2, 16))
    assert run(["run", str(output), "--input", str(inputs), "-o", str(results)], tiny) == 0
    [got] = np.load(results).values()
    np.testing.assert_array_equal(got, expected(np.arange(-16, 16).reshape(2, 16), relu=bool(relu)))


def expected(x, *, relu):
    """What the file says, in whole numbers: one unit of the accumulator is 1/256 of an output."""
    net = json.loads(NET.read_text("utf-8"))
    assert net["steps"] == {"input": 1 / 16, "weights": 1 / 128, "output": 1 / 8}
    bias = np.array(net["bias"]) * 16 * 128
    accumulator = x @ np.array(net["weights"]).T + bias
    if relu:
        accumulator = np.maximum(accumulator, 0)
    return np.clip(np.rint(accumulator / 256), -128, 127)


@pytest.mark.parametrize("text", ["", "[]", '{"weights": [[300]], "bias": [0]}', '{"weights": 3}'])
def test_a_bad_file_is_one_diagnostic(tiny, tmp_path, capsys, text):
    bad = tmp_path / "bad.tiny"
    bad.write_text(text)
    assert run(["convert", str(bad), "-o", str(tmp_path / "out")], tiny) == 3
    assert capsys.readouterr().err.count("error[TINY1]") == 1


BROKEN = {
    "pyproject.toml": """
[project]
name = "dlaconv-broken"
version = "0.1"
entry-points.dlaconv.broken = "dlaconv_broken"
""",
    "dlaconv_broken.py": "raise RuntimeError('out of order')\n",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment of its own that sees this one's packages, with two plugins installed."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copytree(EXAMPLE, folder / "tiny")
    (folder / "broken").mkdir()
    for name, text in BROKEN.items():
        (folder / "broken" / name).write_text(text)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    [site] = (folder / "env").glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({place!r})\n" for place in sorted(places)]
    (site / "borrowed.pth").write_text("".join(lines))
    command = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    packages = [folder / "tiny", folder / "broken"]
    subprocess.run([*command, *packages], check=True, capture_output=True, cwd=folder)

    def call(*args):
        return subprocess.run(
            [python, "-m", "dlaconv", *args],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )

    return call


@pytest.mark.slow
def test_an_installed_plugin_converts_beside_a_broken_one(environment, tmp_path):
    output = tmp_path / "net.onnx"
    shown = environment("from-tiny", NET, "-o", output)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert output.exists()
    assert output.with_suffix(".json").exists()


@pytest.mark.slow
def test_a_broken_plugin_is_listed(environment):
    shown = environment("plugins", "--json")
    assert shown.returncode == 0, shown.stderr
    listed = {item["name"]: item for item in json.loads(shown.stdout)}
    assert listed["tiny"]["distribution"] == "dlaconv-tiny 1.0"
    assert listed["tiny"]["frontends"] == ["tiny"]
    assert listed["tiny"]["problems"] == []
    assert listed["broken"]["problems"] == ["RuntimeError: out of order"]
