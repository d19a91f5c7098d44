import inspect
import subprocess
import sys

import pytest

import dlaconv
from dlaconv import api
from dlaconv.errors import InternalError, UnreadableError, UsageError
from dlaconv.frontends import Frontend
from dlaconv.plugins import Plugins


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


HEAVY = ["h5py", "numpy", "onnx", "onnx_ir", "onnxruntime", "google.protobuf", "sympy"]


def test_importing_the_package_imports_nothing_else():
    shown = python(
        "import sys; before = set(sys.modules); import dlaconv; "
        "print(sorted(n for n in set(sys.modules) - before if n.startswith(('dlaconv', 'typer'))))"
    )
    assert shown == "['dlaconv', 'dlaconv.lazy_imports']\n"


def test_the_help_imports_nothing_heavy():
    shown = python(
        "import sys, io\n"
        "from dlaconv.cli import run\n"
        "sys.stdout = io.StringIO()\n"
        "code = run(['--help'])\n"
        "sys.stdout = sys.__stdout__\n"
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    assert shown == "0 []\n"


def test_the_heavy_libraries_are_found_where_they_are_needed():
    shown = python(
        "import sys, dlaconv.driver.conversion, dlaconv.arrays, dlaconv.ir.dialect; print("
        "[name for name in ['numpy', 'onnx_ir'] if name in sys.modules])"
    )
    assert shown == "['numpy', 'onnx_ir']\n"


@pytest.mark.parametrize("name", ["load", "convert", "check", "run", "verify", "strip"])
def test_the_api_is_typed_and_documented(name):
    function = getattr(dlaconv, name)
    assert function is getattr(api, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty
        assert f"{parameter.name}:" in function.__doc__
    assert "Raises:" in function.__doc__


def test_the_public_names_exist():
    for name in dlaconv.__all__:
        assert getattr(dlaconv, name) is not None
    assert dir(dlaconv) == dlaconv.__all__
    with pytest.raises(AttributeError, match="no attribute 'transmogrify'"):
        dlaconv.transmogrify  # noqa: B018


def test_load_gives_plugins_layers_to_a_frontend(plugins, toys, toy):
    api.load(str(toy), plugins=plugins)
    api.load([toy], "toy", plugins=plugins, gain=2.0)
    assert toys.loaded == [(toy, {}, 1.0), (toy, {}, 2.0)]


def test_load_refuses_unknown_arguments(plugins, toy):
    with pytest.raises(UsageError, match="unexpected keyword argument 'colour'"):
        api.load(toy, plugins=plugins, colour="red")


def test_a_missing_file_comes_before_everything_else(tmp_path, plugins, driver):
    missing = tmp_path / "missing"
    for call in (
        lambda: api.load(missing, plugins=plugins),
        lambda: api.convert(missing, plugins=plugins),
        lambda: api.check(missing, plugins=plugins),
        lambda: api.run(missing, {}),
        lambda: api.verify(missing, missing, plugins=plugins),
    ):
        with pytest.raises(UnreadableError, match="DLA401"):
            call()
    assert driver.calls == []


def test_a_built_in_frontend_that_fails_is_our_bug(toy, monkeypatch):
    plugins = Plugins(third_parties=False)

    def fails(path):
        raise KeyError(path)

    broken = Frontend("qonnx", "", fails)
    monkeypatch.setattr(Plugins, "frontend", lambda self, name: broken)
    with pytest.raises(InternalError, match="frontend 'qonnx': KeyError"):
        api.load(toy, "qonnx", plugins=plugins)
