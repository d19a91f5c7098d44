from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dlaconv import hookimpl
from dlaconv.cli import run
from dlaconv.diagnostics import Diagnostics
from dlaconv.driver import conversion, inspection, proof
from dlaconv.driver.result import Conversion
from dlaconv.frontends import Frontend, Imported
from dlaconv.plugins import Plugin, Plugins
from tests.core import samples


class Toy:
    """A plugin with a frontend that believes every ``.toy`` file, and notes how it was called."""

    def __init__(self):
        self.loaded = []

    @hookimpl
    def register_frontends(self):
        def load(path: Path, *, layers=None, gain: float = 1.0):
            self.loaded.append((path, layers, gain))
            return Imported(None)

        return [Frontend("toy", "Convert a toy.", load, lambda path: path.suffix == ".toy")]


@pytest.fixture
def toy(tmp_path):
    file = tmp_path / "net.toy"
    file.write_text("toy")
    return file


@pytest.fixture
def toys():
    return Toy()


@pytest.fixture
def plugins(toys):
    found = Plugins(third_parties=False)
    found.add(toys, Plugin("toy", "dlaconv-toy 1.0"))
    return found


@pytest.fixture
def driver(monkeypatch):
    """Stands in for the functions of `dlaconv.driver`; calls are in ``calls``."""
    homes = {
        "convert_imported": conversion,
        "check_file": inspection,
        "verify_files": proof,
        "run_file": proof,
    }
    stand_in = SimpleNamespace(calls=[], diagnostics=Diagnostics(), report=samples.report())
    stand_in.check = SimpleNamespace(
        diagnostics=stand_in.diagnostics,
        convention="guide",
        convention_source="given",
        passed=("CV-1",),
        violated={"IO-3": 2},
        undecided=(),
    )
    stand_in.verification = SimpleNamespace(passed=True, as_json=lambda: samples.VERIFICATION)
    stand_in.arrays = {"y": np.arange(6, dtype=np.int8).reshape(2, 3)}

    def replace(name, answer):
        def call(*args, **kwargs):
            stand_in.calls.append((name, args, kwargs))
            result = answer(*args, **kwargs)
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(homes[name], name, call)

    def converted(imported, source, output, options, plugins, **_):
        return Conversion(None, stand_in.diagnostics, stand_in.report, output)

    replace("convert_imported", converted)
    replace("check_file", lambda *_: stand_in.check)
    replace("verify_files", lambda *_, **__: stand_in.verification)
    replace("run_file", lambda *_, **__: stand_in.arrays)
    stand_in.replace = replace
    return stand_in


@pytest.fixture
def dlaconv(plugins, capsys):
    """Runs a command line; returns exit code, standard output and standard error."""

    def call(*args):
        capsys.readouterr()
        code = run([str(item) for item in args], plugins)
        shown = capsys.readouterr()
        return SimpleNamespace(code=code, out=shown.out, err=shown.err)

    return call
