"""What the commands do when all is well."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from dlaconv import __version__, hookimpl
from dlaconv.cli import built_in_commands, run
from dlaconv.commands.command import is_argument
from dlaconv.driver.sources import Source
from dlaconv.frontends import Frontend, Imported
from dlaconv.ir.calibration.ranges import METHODS
from dlaconv.ir.rounding import Rounding
from dlaconv.options import (
    ACTIVATION_ORDERS,
    CONVENTIONS,
    IO_MODES,
    POLICIES,
    RANGES,
    Hardware,
    Options,
)
from dlaconv.plugins import Plugin, Plugins
from dlaconv.preprocessing import LAYOUTS, PRESETS, Preprocessing
from tests.core import samples
from tests.core.test_schemas import validate

COMMANDS = {command.name: command for command in built_in_commands(Plugins(third_parties=False))}


def test_a_conversion_ends_with_its_summary(dlaconv, driver, toy, tmp_path):
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "net.dla.onnx")
    assert shown.code == 0
    assert "int8 = clip(round(x / 0.0078125), -128, 127)" in shown.out
    assert shown.err == ""
    [(name, (_, source, output, options, _), more)] = driver.calls
    assert (name, source, output) == ("convert_imported", toy, tmp_path / "net.dla.onnx")
    assert options == Options()
    assert more["opened"].frontend.name == "toy"


def test_a_conversion_prints_its_report_as_json(dlaconv, driver, toy, tmp_path):
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out", "--json")
    assert shown.code == 0
    assert json.loads(shown.out) == samples.REPORT


def test_every_shared_option_arrives(dlaconv, driver, toy, tmp_path):
    shown = dlaconv(
        *["from-toy", toy, "-o", tmp_path / "out", "--target", "t.json"],
        *["--scale-policy", "nearest", "--io", "pin", "--scale-convention", "int-per-real"],
        *["--calibrate", "data.npz", "--set-shape", "x=1,3,8,8", "--set-shape", "a=b=2"],
        *["--allow-violations", "--samples", "7", "--seed", "3", "--rounding", "half-up"],
        *["--activation-order", "after-clamp", "--unsigned-maps", "--dump-stages", "stages"],
        *["--preset", "tf", "--mean", "1,2,3", "--std", "2", "--scale", "0.5", "--bgr"],
        *["--resize", "9", "--crop", "8x7", "--layout", "nhwc", "--ranges", "kl"],
        *["--calibration-cache", "seen.npz", "--optimise", "2", "--verify-with", "other"],
    )
    assert shown.code == 0
    assert driver.calls[0][1][3] == Options(
        target=Path("t.json"),
        policy="nearest",
        io="pin",
        convention="int-per-real",
        calibrate=Path("data.npz"),
        shapes={"x": (1, 3, 8, 8), "a=b": (2,)},
        allow_violations=True,
        samples=7,
        seed=3,
        rounding="half-up",
        activation_order="after-clamp",
        unsigned_maps=True,
        dump_stages=Path("stages"),
        images=Preprocessing("tf", (1.0, 2.0, 3.0), (2.0,), 0.5, True, (9,), (8, 7), "nhwc"),
        ranges="kl",
        calibration_cache=Path("seen.npz"),
        optimise=2,
        verify_with="other",
    )
    dlaconv("from-toy", toy, "-o", tmp_path / "out", "--no-verify", "--io", "absorb")
    assert driver.calls[1][1][3] == Options(verify=False, io="absorb")


def test_the_choices_are_those_of_the_driver():
    from dlaconv.commands import calibration, choices

    assert tuple(calibration.PresetName) == PRESETS
    assert tuple(calibration.LayoutName) == LAYOUTS
    assert tuple(calibration.RangeMethod) == RANGES == METHODS
    assert tuple(choices.Policy) == POLICIES
    assert tuple(choices.Io) == IO_MODES
    assert tuple(choices.Convention) == CONVENTIONS
    assert tuple(choices.ActivationOrder) == ACTIVATION_ORDERS
    assert set(choices.HardwareRounding) <= {str(mode) for mode in Rounding}


def test_a_frontends_parameters_become_options(dlaconv, driver, toys, toy, tmp_path):
    assert dlaconv("from-toy", toy, "-o", tmp_path / "out", "--gain", "2.5").code == 0
    assert toys.loaded == [(toy, {}, 2.5)]
    shown = dlaconv("from-toy", "--help")
    assert "--gain" in shown.out
    assert "--layers" not in shown.out


def test_convert_recognises_the_format(dlaconv, driver, toys, toy, tmp_path):
    assert dlaconv("convert", toy, "-o", tmp_path / "out").code == 0
    assert driver.calls[0][2]["opened"].frontend.name == "toy"
    other = toy.rename(tmp_path / "net.other")
    assert dlaconv("convert", other, "-o", tmp_path / "out").code == 3
    assert dlaconv("convert", other, "-o", tmp_path / "out", "--from", "toy").code == 0
    assert len(toys.loaded) == 2


def test_a_file_of_two_formats_must_be_chosen(dlaconv, driver, plugins, toy, tmp_path):
    class Twin:
        @hookimpl
        def register_frontends(self):
            return [Frontend("twin", "Convert twins.", lambda path: None, lambda path: True)]

    plugins.add(Twin(), Plugin("twin", "dlaconv-twin 1.0"))
    shown = dlaconv("convert", toy, "-o", tmp_path / "out")
    assert shown.code == 2
    assert "toy or twin" in shown.err
    assert "--from toy" in shown.err


def test_warnings_of_a_conversion_go_to_standard_error(dlaconv, driver, toy, tmp_path):
    driver.diagnostics.add(samples.FINDING)
    driver.diagnostics.note("DLA201", "hint", "a hint")
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out")
    assert shown.code == 0
    assert str(samples.FINDING) in shown.err
    assert "a hint" not in shown.err
    assert "1 note not shown" in shown.err
    assert "a hint" in dlaconv("-v", "from-toy", toy, "-o", tmp_path / "out").err
    quiet = dlaconv("from-toy", toy, "-o", tmp_path / "out", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_a_failed_comparison_ends_with_1(dlaconv, driver, toy, tmp_path):
    driver.report["verification"]["passed"] = False
    shown = dlaconv("from-toy", toy, "-o", tmp_path / "out")
    assert shown.code == 1
    assert "FAILED" in shown.out


def test_a_check_with_errors_ends_with_1(dlaconv, driver, toy):
    assert dlaconv("check", toy).code == 0
    driver.diagnostics.add(samples.FINDING)
    assert dlaconv("check", toy).code == 0
    driver.diagnostics.error("IO-1", "input-channels", "600 channels")
    shown = dlaconv("check", toy, "--target", "t.json")
    assert shown.code == 1
    assert "600 channels" in shown.err
    assert "1 passed, 1 violated: IO-3 (2x)" in shown.out
    assert driver.calls[-1][1][:2] == (toy, Path("t.json"))
    for arguments in (["--json"], ["--format", "json"], ["--json", "--format=json"]):
        shown = dlaconv("check", toy, *arguments)
        assert (shown.code, shown.err) == (1, "")
        validate("check", json.loads(shown.out))


def test_rules_are_listed_and_explained(dlaconv):
    shown = dlaconv("rule")
    assert shown.code == 0
    assert "IO-3" in shown.out
    explained = dlaconv("rule", "io-3")
    assert explained.code == 0
    assert explained.out.startswith("IO-3 ")
    assert "Why it matters on the hardware" in explained.out
    assert "DLA301" in shown.out
    other = dlaconv("rule", "dla301")
    assert other.out.startswith("DLA301 unconvertible-operator (error)\n")
    assert "What to do: " in other.out
    listed = json.loads(dlaconv("rule", "--json").out)
    assert len({frozenset(row) for row in listed}) == 1
    assert json.loads(dlaconv("rule", "DLA301", "--json").out) in listed
    assert json.loads(dlaconv("rule", "IO-3", "--json").out) in listed


def test_operators_are_listed(dlaconv):
    shown = dlaconv("ops")
    assert shown.code == 0
    assert "MaxPool" in shown.out
    assert "MaxPool" in [row["op"] for row in json.loads(dlaconv("ops", "--json").out)]


def test_a_bad_target_is_wrong_usage(dlaconv, tmp_path):
    target = tmp_path / "target.json"
    target.write_text('{"name": 3}')
    shown = dlaconv("ops", "--target", target)
    assert shown.code == 2
    assert "error[DLA410]" in shown.err


def test_a_run_writes_its_results(dlaconv, driver, toy, tmp_path):
    inputs, output = (tmp_path / f"{name}.npz" for name in ("x", "y"))
    np.savez(inputs, image=np.ones((2, 4), np.float32))
    shown = dlaconv("run", toy, "--input", inputs, "--output", output)
    assert shown.code == 0
    assert str(output) in "".join(shown.out.split())  # wherever a long path is broken
    np.testing.assert_array_equal(np.load(output)["y"], driver.arrays["y"])
    [(_, given, more)] = driver.calls
    assert given == (toy, inputs, Hardware(), Preprocessing())
    assert (more["fetch_all"], more["as_float"]) == (False, False)
    more = ["--as-float", "--rounding", "floor", "--activation-order", "after-clamp"]
    more += ["--target", "own.json", "--preset", "tf"]
    shown = dlaconv("run", toy, "--input", inputs, "-o", output, *more, "--json")
    wanted = Hardware("floor", "after-clamp", Path("own.json")), Preprocessing("tf")
    assert driver.calls[-1][1][2:] == wanted
    assert driver.calls[-1][2] == {"fetch_all": False, "as_float": True}
    document = json.loads(shown.out)
    assert document["outputs"] == {"y": {"shape": [2, 3], "dtype": "int8", "min": 0, "max": 5}}
    assert document["output"] == str(output)


def test_a_comparison_is_a_table_or_json(dlaconv, driver, toy, tmp_path):
    converted = tmp_path / "net.onnx"
    converted.touch()
    shown = dlaconv("verify", toy, converted)
    assert shown.code == 0
    assert "logits" in shown.out
    [(_, given, more)] = driver.calls
    assert given == (Source((toy,)), converted, Hardware(), Preprocessing())
    plugins = more.pop("plugins")
    assert "toy" in plugins.frontends
    assert more == {
        "inputs": None,
        "samples": 4,
        "seed": 0,
    }
    validate("verify", json.loads(dlaconv("verify", toy, converted, "--json").out))
    driver.verification.passed = False
    assert dlaconv("verify", toy, converted, "--samples", 9, "--seed", 2).code == 1
    assert (driver.calls[-1][2]["samples"], driver.calls[-1][2]["seed"]) == (9, 2)
    inputs = tmp_path / "x.npz"
    inputs.touch()
    dlaconv("verify", toy, converted, "--input", inputs, "--from", "toy", "--target", "own.json")
    assert driver.calls[-1][1][2].target == Path("own.json")
    assert driver.calls[-1][2]["inputs"] == inputs
    assert driver.calls[-1][1][0] == Source((toy,), "toy")


def test_plugins_are_listed_with_what_is_wrong(dlaconv, plugins):
    plugins.add(object(), Plugin("empty", "dlaconv-empty 0.1"))
    shown = dlaconv("plugins")
    assert shown.code == 0
    assert "from-qonnx" in shown.out
    assert "empty: implements no hook" in shown.out
    listed = json.loads(dlaconv("plugins", "--json").out)
    assert [item["name"] for item in listed if item["problems"]] == ["empty"]


def test_broken_plugins_are_mentioned_only_when_verbose(dlaconv, plugins):
    plugins.add(object(), Plugin("empty", "dlaconv-empty 0.1"))
    assert "empty" not in dlaconv("ops").err
    shown = dlaconv("ops", "-v").err
    assert shown == (
        "warning: plugin 'empty' of dlaconv-empty 0.1: "
        "implements no hook (is @dlaconv.hookimpl missing?)\n"
    )


def bad_type(path: Path, seen: int | str = 1):
    return Imported(None)


def bad_name(path: Path, output: str = ""):
    return Imported(None)


def bad_annotation(path: "Missing", mode: int = 1):  # noqa: F821
    return Imported(None)


@pytest.mark.parametrize("load", [bad_type, bad_name, bad_annotation])
def test_a_frontend_that_makes_no_command_breaks_nothing(dlaconv, plugins, driver, toy, load):
    class Bad:
        @hookimpl
        def register_frontends(self):
            return [Frontend("bad", "Convert bad files.", load)]

    plugins.add(Bad(), Plugin("bad", "dlaconv-bad 1.0"))
    assert dlaconv("--help").code == 0
    assert plugins.all[-1].problems
    assert "from-bad" not in dlaconv("--help").out
    assert dlaconv("from-toy", toy, "-o", toy.parent / "out").code == 0


def test_a_plugin_adds_commands(dlaconv, plugins):
    class Greeter:
        @hookimpl
        def register_commands(self, app):
            @app.command()
            def greet(name: str = "you") -> None:
                """Greet."""
                typer.echo(f"hello {name}")

            @app.command()
            def check() -> None:
                """Take the place of a built-in command."""

    plugins.add(Greeter(), Plugin("greeter", "dlaconv-greeter 1.0"))
    assert dlaconv("greet", "--name", "x").out == "hello x\n"
    assert "greet" in dlaconv("--help").out
    assert plugins.all[-1].problems == ["there is a command 'check' already"]
    assert "rules of the hardware" in dlaconv("check", "--help").out


def test_without_arguments_the_help_is_shown(dlaconv):
    shown = dlaconv()
    assert shown.code == 0
    assert shown.out == dlaconv("--help").out
    for title in ("Convert", "Inspect", "Prove"):
        assert f"─ {title} ─" in shown.out


def test_the_version_is_printed(dlaconv):
    shown = dlaconv("--version")
    assert (shown.code, shown.out) == (0, f"dlaconv {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert run([name, "--help"], Plugins(third_parties=False)) == 0
    shown = capsys.readouterr().out
    command = COMMANDS[name]
    assert command.summary in shown
    for example in command.examples:
        assert example in shown
    for parameter in command.parameters:
        if not is_argument(parameter):
            assert parameter.annotation.__metadata__[0].help in shown
