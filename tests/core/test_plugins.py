import sys
import types
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from dlaconv import hookimpl
from dlaconv import plugins as module
from dlaconv.errors import PluginError, UsageError
from dlaconv.frontends import Frontend, Imported
from dlaconv.hookspecs import HOOKS
from dlaconv.plugins import Plugin, Plugins


def load(path):
    return Imported(None)


def frontend(name, **more):
    return Frontend(name, f"Convert {name}.", load, **more)


def plugin(**hooks):
    """A module with hook implementations."""
    found = types.ModuleType("plugin")
    for name, function in hooks.items():
        setattr(found, name, hookimpl(function))
    return found


def added(*implementations):
    """Plugins named p0, p1, ... beside the built-ins."""
    found = Plugins(third_parties=False)
    for index, implementation in enumerate(implementations):
        found.add(implementation, Plugin(f"p{index}", f"package-{index} 1.0"))
    return found


def with_frontends(*names):
    return plugin(register_frontends=lambda: [frontend(name) for name in names])


class Distribution:
    metadata: ClassVar = {}

    def __init__(self, name):
        self.name, self.version = name, "2.0"


def entry_points(monkeypatch, *sources):
    """Pretends that packages p0, p1, ... with these modules' sources are installed."""
    points = []
    for index, source in enumerate(sources):
        name = f"dlaconv_test_plugin_{index}"
        points.append(EntryPoint(f"p{index}", name, "dlaconv"))
        object.__setattr__(points[-1], "dist", Distribution(f"package-{index}"))
        monkeypatch.delitem(sys.modules, name, raising=False)
        finder = Finder(name, source)
        monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.setattr(module, "entry_points", lambda group: points if group == "dlaconv" else [])
    monkeypatch.delenv(module.SELECTION, raising=False)


class Finder:
    def __init__(self, name, source):
        self.name, self.source = name, source

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self)

    def create_module(self, spec):
        return None

    def exec_module(self, loaded):
        exec(self.source, vars(loaded))


GOOD = """
from dlaconv import hookimpl
from dlaconv.frontends import Frontend, Imported
def load(path): return Imported(None)
@hookimpl
def register_frontends(): return [Frontend("good", "Convert good files.", load)]
"""


def test_qonnx_is_a_plugin_like_any_other():
    found = Plugins(third_parties=False)
    assert found.frontends["qonnx"] is found.frontend("qonnx")
    assert found.owner("qonnx").built_in
    assert not found.broken


def test_a_plugin_adds_a_frontend():
    found = added(with_frontends("toy"))
    assert found.frontend("toy").name == "toy"
    assert found.all[-1].frontends == ["toy"]
    assert found.all[-1].hooks == ("register_frontends",)


def test_entry_points_are_loaded(monkeypatch):
    entry_points(monkeypatch, GOOD)
    found = Plugins()
    assert "good" in found.frontends
    assert found.all[-1].distribution == "package-0 2.0"


BROKEN = {
    "raise ImportError('no module torch')": "ImportError: no module torch",
    "import sys; sys.exit(3)": "SystemExit: 3",
    "x = 1": "implements no hook",
    "from dlaconv import hookimpl\n@hookimpl\ndef register_frontend(): return []": (
        "there is no hook 'register_frontend'; did you mean register_frontends?"
    ),
    "from dlaconv import hookimpl\n@hookimpl\ndef register_frontends(): 1 / 0": (
        "register_frontends: ZeroDivisionError"
    ),
    "from dlaconv import hookimpl\n@hookimpl\ndef register_frontends(): return 3": (
        "register_frontends returned a value of type int, no sequence"
    ),
    "from dlaconv import hookimpl\n@hookimpl\ndef register_frontends(): return ['x']": (
        "register_frontends returned a value of type str, no Frontend"
    ),
    "from dlaconv import hookimpl\n@hookimpl\ndef register_passes(stages): return []": (
        "PluginValidationError"
    ),
    "def __getattr__(name): raise RuntimeError('boo')": "implements no hook",
    GOOD.replace('"good"', '"Good Files"'): "is not made of lower-case letters",
    GOOD.replace("load(path)", "load()"): "the first parameter of load must be the file",
    GOOD.replace("load(path)", "load(path=None)"): "must be the file",
    GOOD.replace('"good"', '"qonnx"'): "frontend 'qonnx' belongs to dlaconv itself",
}


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_plugin_is_listed_and_breaks_nothing(monkeypatch, source):
    entry_points(monkeypatch, source, GOOD)
    found = Plugins()
    broken, good = found.all[-2:]
    assert BROKEN[source] in broken.problems[0]
    assert broken.as_json()["problems"]
    assert good.problems == []
    assert set(found.frontends) == {"caffe", "good", "keras", "onnx", "qonnx"}
    assert found.owner("qonnx").built_in


def test_what_a_plugin_prints_does_not_get_into_results(monkeypatch, capsys):
    entry_points(monkeypatch, "print('hello')\n" + GOOD)
    Plugins()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "hello\n")


@pytest.mark.parametrize(
    ("chosen", "expected"), [("", []), ("p1", ["p1"]), ("p0, p1", ["p0", "p1"])]
)
def test_the_environment_chooses_third_parties(monkeypatch, chosen, expected):
    entry_points(monkeypatch, GOOD, GOOD.replace('"good"', '"better"'))
    monkeypatch.setenv(module.SELECTION, chosen)
    assert [item.name for item in Plugins().all if not item.built_in] == expected


def test_a_name_claimed_twice_is_an_error_only_when_used():
    found = added(with_frontends("toy"), with_frontends("toy", "other"))
    assert found.frontend("other").name == "other"
    with pytest.raises(PluginError) as error:
        found.frontend("toy")
    assert "package-0 1.0" in str(error.value)
    assert "package-1 1.0" in str(error.value)
    assert [item.name for item in found.broken] == ["p0", "p1"]


def test_an_unknown_frontend_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="known frontends: caffe, keras, onnx, qonnx, toy"):
        added(with_frontends("toy")).frontend("tow")


def test_files_are_recognised_by_any_frontend(tmp_path):
    file = tmp_path / "net.toy"
    file.write_bytes(b"toy")

    def raising(path):
        raise ValueError(path)

    found = added(
        plugin(register_frontends=lambda: [frontend("toy", sniff=lambda p: p.suffix == ".toy")]),
        plugin(register_frontends=lambda: [frontend("bad", sniff=raising)]),
    )
    assert found.recognise([file]) == ["toy"]
    assert "sniff: ValueError" in found.all[-1].problems[0]


def test_layers_are_asked_for_by_frontend():
    found = added(
        plugin(register_layers=lambda frontend: {"Foo": load} if frontend == "qonnx" else {})
    )
    assert found.layers("qonnx") == {"Foo": load}
    assert found.layers("caffe") == {}


def test_a_layer_claimed_twice_is_an_error():
    found = added(*(plugin(register_layers=lambda frontend: {"Foo": load}) for _ in range(2)))
    with pytest.raises(PluginError, match="'Foo'"):
        found.layers("qonnx")


def test_layers_of_the_wrong_kind_are_left_out():
    found = added(plugin(register_layers=lambda frontend: [load]))
    assert found.layers("qonnx") == {}
    assert "no mapping" in found.all[-1].problems[0]


def test_passes_are_asked_for_by_stage():
    from dlaconv.ir.pipeline import Pass
    from dlaconv.ir.stages import Stage

    step = Pass("nothing", lambda model, context: None)
    found = added(plugin(register_passes=lambda stage: [step] if stage is Stage.LEGAL else []))
    assert found.passes(Stage.LEGAL) == [step]
    assert found.passes(Stage.CANONICAL) == []
    wrong = added(plugin(register_passes=lambda stage: [print]))
    assert wrong.passes(Stage.LEGAL) == []
    assert "no Pass" in wrong.all[-1].problems[0]


def test_rules_are_collected():
    rule = make_rule("XY-1")
    found = added(plugin(register_rules=lambda: [rule]))
    assert found.rules() == [rule]
    wrong = added(plugin(register_rules=lambda: ["IO-3"]))
    assert wrong.rules() == []
    assert "no Rule" in wrong.all[-1].problems[0]


@pytest.mark.parametrize("name", ["IO-3", "io-3", "DLA101", "XY-1"])
def test_a_rule_id_that_is_taken_is_left_out(name):
    first, second = make_rule("XY-1"), make_rule(name)
    found = added(plugin(register_rules=lambda: [first]), plugin(register_rules=lambda: [second]))
    assert found.rules() == [first]
    assert found.all[-1].problems == [f"rule id {name!r} is taken"]


def make_rule(name):
    from dlaconv.backends.access.rules import Rule

    class Extra(Rule):
        id, name, clause = "", "extra", "silent"

        def check(self, model):
            return iter(())

    Extra.id = name
    return Extra()


def test_commands_come_with_their_plugin():
    def register(app):
        @app.command()
        def greet():
            """Greet."""

    found = added(plugin(register_commands=register), with_frontends("toy"))
    [(owner, app)] = found.commands()
    assert owner.name == "p0"
    assert len(app.registered_commands) == 1


def test_an_object_can_be_a_plugin():
    class Toys:
        @hookimpl
        def register_frontends(self):
            return [frontend("toy")]

    assert "toy" in added(Toys()).frontends


def test_every_hook_has_a_test_of_its_own():
    tested = {"register_frontends", "register_layers", "register_passes"}
    assert set(HOOKS) == tested | {"register_rules", "register_commands"}
