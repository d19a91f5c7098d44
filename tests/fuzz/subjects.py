"""What mutants are put through: a conversion, or everything that reads an ACCESS file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

import dlaconv
from dlaconv import options
from dlaconv.commands.choices import HardwareRounding
from dlaconv.commands.inspection import Format
from dlaconv.errors import UserError
from tests.fuzz.corpus import ACCESS, CAFFE, KERAS, ONNX
from tests.fuzz.layered import WEIGHTS
from tests.fuzz.mutants import Mutant, Recipe
from tests.fuzz.oracle import (
    BrokenPromiseError,
    check_diagnostics,
    check_report,
    command,
    explained,
    plugins,
    silence,
    snapshot,
)

WRITTEN, DIFFERS, REFUSED, FAT = "written", "written, differs", "refused", "out of memory"
CHECKED, RUN = "checked", "run"
_FEW_ELEMENTS = 100_000


def judge(recipe: Recipe, mutant: Mutant, folder: Path) -> tuple[str, str]:
    """Puts a mutant through its subject.

    Args:
        recipe: of the mutant.
        mutant: what to put there.
        folder: an empty folder.

    Returns:
        The outcome, and the rule that refused it.

    Raises:
        BrokenPromiseError: if something that must hold does not.
        Exception: whatever the program raises and must not.
    """
    given, out = folder / "in", folder / "out"
    given.mkdir()
    out.mkdir()
    path = mutant.put(given)
    before = snapshot(given)
    try:
        subject = _read if recipe.subject == ACCESS else _convert
        outcome, rule = subject(recipe, path, out)
        if mutant.must_refuse and outcome not in {REFUSED, FAT}:
            raise BrokenPromiseError("a file that must not be read was read")
    finally:
        if snapshot(given) != before:
            raise BrokenPromiseError("the source or its folder was changed")
    return outcome, rule


def _convert(recipe: Recipe, path: Path, out: Path) -> tuple[str, str]:
    random = Random(recipe.way)
    asked = _options(random, path)
    if recipe.subject in {ONNX, KERAS, CAFFE} and random.random() < 0.8:
        asked["calibrate"] = _calibration(random, recipe, path, out)
    output = out / "net.dla.onnx"
    files = [path, path.parent / WEIGHTS] if recipe.subject == CAFFE else [path]
    command_name = f"from-{recipe.subject}"
    if random.random() < 0.25:
        as_json = random.random() < 0.5
        return _convert_by_command(command_name, asked, files, output, as_json=as_json)
    frontend = random.choice((None, recipe.subject, recipe.subject))
    try:
        with silence():
            wanted = options.Options(**asked)
            conversion = dlaconv.convert(
                files, output, frontend=frontend, options=wanted, plugins=plugins()
            )
    except UserError as error:
        _nothing_in(out)
        return REFUSED, explained(error)
    except MemoryError:
        _nothing_in(out)
        return FAT, ""
    check_diagnostics(conversion.diagnostics)
    json.dumps(conversion.report, allow_nan=False)
    return _written(asked, output)


def _options(random: Random, path: Path) -> dict[str, Any]:
    """Half of the defaults, half of anything."""
    asked: dict[str, Any] = {"verify": random.random() < 0.4, "partition": False}
    if random.random() < 0.4:
        asked["allow_violations"] = True
    if asked["verify"] and random.random() < 0.6:
        asked["samples"] = random.choice((1, 2))
    if random.random() < 0.5:
        return asked
    asked["rounding"] = random.choice(tuple(HardwareRounding)).value
    asked["policy"] = random.choice(options.POLICIES)
    asked["convention"] = random.choice(options.CONVENTIONS)
    asked["activation_order"] = random.choice(options.ACTIVATION_ORDERS)
    asked["unsigned_maps"] = random.random() < 0.3
    asked["legalise"] = random.choice(("exact", "exact", "all", "off"))
    if asked["policy"] == "absorb":
        asked["io"] = random.choice(options.IO_MODES)
    if random.random() < 0.2:
        shape = random.choice(((1, 16, 6, 6), (1, 3, 8, 8), (1,), (2, 16, 6, 6), (1, 10**9, 10**9)))
        asked["shapes"] = {random.choice(("x", "input", "nothing")): shape}
    return asked


def _calibration(random: Random, recipe: Recipe, path: Path, out: Path) -> Path:
    """Two samples for every input that is known, of the right shape unless that is unlikely."""
    shapes = dict(recipe.origin.shapes)
    if not shapes:
        shapes = _input_shapes(path.read_bytes()) or _input_shapes(recipe.origin.data)
    file = out.parent / "calibration.npz"
    if random.random() < 0.02:
        file.write_bytes(b"no numbers")
        return file
    arrays = {
        name: np.concatenate([_samples(shape, random).astype(np.float32) for _ in range(2)])
        for name, shape in shapes.items()
        if _plain(name) and shape
    }
    np.savez(file, **arrays)
    return file


def _convert_by_command(
    name_of_command: str, asked: dict[str, Any], files: list[Path], output: Path, *, as_json: bool
) -> tuple[str, str]:
    words = {"policy": "scale-policy", "convention": "scale-convention"}
    arguments = [name_of_command, *map(str, files), "-o", str(output)]
    for name, value in asked.items():
        option = f"--{words.get(name, name).replace('_', '-')}"
        if name == "shapes":
            for key, shape in value.items():
                arguments += ["--set-shape", f"{key}={','.join(map(str, shape))}"]
        elif name == "verify":
            arguments += [] if value else ["--no-verify"]
        elif name == "partition":
            arguments.append("--no-partition")
        elif isinstance(value, bool):
            arguments += [option] if value else []
        else:
            arguments += [option, str(value)]
    arguments += ["--json"] if as_json else []
    code, document, shown = command(*arguments, as_json=as_json)
    if code == 0 or output.exists():
        return _written(asked, output)
    _nothing_in(output.parent)
    return _refusal(document, shown)


def _refusal(document: Any, shown: str) -> tuple[str, str]:
    """The outcome that a command names."""
    if document is None:
        rule = shown.partition("error[")[2].partition("]")[0]
    else:
        if "runs" in document:
            found = list(_sarif_findings(document))
        else:
            found = [(item["severity"], item["rule"]) for item in document["diagnostics"]]
        rule = next((rule for level, rule in found if level == "error"), "")
        if not rule:
            raise BrokenPromiseError("a refusal without an error", str(document)[:500])
    return (FAT, "") if rule == "DLA442" else (REFUSED, rule)


def _sarif_findings(document: Any) -> Iterator[tuple[str, str]]:
    """Level and rule of every finding of a SARIF document."""
    for run in document["runs"]:
        for item in run["results"]:
            yield item["level"], item["ruleId"]
        for invocation in run["invocations"]:
            kinds = ("toolExecutionNotifications", "toolConfigurationNotifications")
            for item in (item for kind in kinds for item in invocation.get(kind, ())):
                yield item["level"], item["descriptor"]["id"]


def _nothing_in(folder: Path) -> None:
    if left := sorted(path.name for path in folder.iterdir()):
        raise BrokenPromiseError("something is left in the output folder", ", ".join(left))


def _written(asked: dict[str, Any], output: Path) -> tuple[str, str]:
    """A written file must be whole, legal and runnable, and its report true to its schema."""
    names = {output.name, output.with_suffix(".json").name}
    if {path.name for path in output.parent.iterdir()} != names:
        raise BrokenPromiseError("the output is not the file and its report")
    report = check_report(output.with_suffix(".json"))
    unlawful = asked.get("allow_violations") or asked.get("unsigned_maps")
    try:
        with silence():
            checked = dlaconv.check(output, plugins=plugins())
            shapes = {entry["name"]: entry["shape"] for entry in report["io"]["inputs"]}
            if not unlawful and _small(shapes):
                _run(output, shapes, Random(0))
    except UserError as error:
        if (rule := explained(error)) != "DLA910":  # an overflow, which SC-10 has warned of
            raise BrokenPromiseError(f"the written file is refused: {rule}", str(error)) from None
    if checked.diagnostics.errors and not unlawful:
        error = checked.diagnostics.errors[0]
        raise BrokenPromiseError(f"the written file breaks {error.rule}", str(error))
    verification = report.get("verification")
    passed = verification is None or verification["passed"]
    return (WRITTEN if passed else DIFFERS), ""


def _run(path: Path, shapes: dict[str, list[int]], random: Random) -> None:
    arrays = {name: _samples(shape, random) for name, shape in shapes.items()}
    dlaconv.run(
        path,
        arrays,
        hardware=dlaconv.Hardware(
            random.choice(tuple(HardwareRounding)).value, random.choice(options.ACTIVATION_ORDERS)
        ),
        fetch_all=random.random() < 0.5,
        as_float=random.random() < 0.5,
    )


def _samples(shape: list[int], random: Random) -> np.ndarray:
    rng = np.random.default_rng(random.getrandbits(32))
    if random.random() < 0.6:
        return rng.integers(-128, 128, shape, np.int8)
    return rng.normal(size=shape).astype(np.float32)


def _read(recipe: Recipe, path: Path, out: Path) -> tuple[str, str]:
    """Checks, runs and verifies an ACCESS file; strips it too if it can be read."""
    random = Random(recipe.way)
    outcome, rule = _check(random, path)
    if random.random() < 0.8:
        outcome, rule = _run_by_any_way(random, recipe, path, out) or (outcome, rule)
    if random.random() < 0.2 and recipe.origin.source:
        _verify(random, recipe, path)
    if hasattr(dlaconv, "strip"):
        _strip(random, path, out)
    return outcome, rule


def _check(random: Random, path: Path) -> tuple[str, str]:
    if random.random() < 0.2:
        form = random.choice(tuple(Format)).value
        as_json = form != "text"
        code, document, shown = command("check", str(path), "--format", form, as_json=as_json)
        return (CHECKED, "") if code == 0 else _refusal(document, shown)
    try:
        with silence():
            checked = dlaconv.check(path, plugins=plugins())
    except UserError as error:
        return REFUSED, explained(error)
    except MemoryError:
        return FAT, ""
    check_diagnostics(checked.diagnostics)
    errors = checked.diagnostics.errors
    return CHECKED, errors[0].rule if errors else ""


def _run_by_any_way(
    random: Random, recipe: Recipe, path: Path, out: Path
) -> tuple[str, str] | None:
    """Runs the file; None if it is refused, as `dlaconv.check` may have been more lenient."""
    shapes = _input_shapes(path.read_bytes()) or _input_shapes(recipe.origin.data)
    if random.random() < 0.25:
        return _run_by_command(random, path, shapes, out)
    try:
        with silence():
            _run(path, shapes, random)
    except UserError as error:
        explained(error)
        return None
    except MemoryError:
        return FAT, ""
    return RUN, ""


def _run_by_command(
    random: Random, path: Path, shapes: dict[str, list[int]], out: Path
) -> tuple[str, str] | None:
    samples, output = out.parent / "x.npz", out / "y.npz"
    np.savez(samples, **{f"{n}": _samples(s, random) for n, s in shapes.items() if _plain(n)})
    name = "run" if random.random() < 0.7 else "dump"
    arguments = [name, str(path), "--input", str(samples), "-o", str(output)]
    arguments += ["--as-float"] if random.random() < 0.3 else []
    as_json = random.random() < 0.5
    arguments += ["--json"] if as_json else []
    code, document, shown = command(*arguments, as_json=as_json)
    if code == 0:
        with np.load(output) as results:
            list(results.values())
        for file in out.iterdir():
            file.unlink()
        return RUN, ""
    _nothing_in(out)
    outcome, _ = _refusal(document, shown)
    return (FAT, "") if outcome == FAT else None


def _plain(name: str) -> bool:
    return name.isidentifier() and name != "file"


def _input_shapes(data: bytes) -> dict[str, list[int]]:
    """Shapes of the graph inputs, empty if they are unknown or large."""
    try:
        model = onnx.load_from_string(data)
    except Exception:  # mutants are no models
        return {}
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in constants
    }
    sane = all(min(shape, default=1) > 0 for shape in shapes.values())
    return shapes if sane and _small(shapes) else {}


def _small(shapes: dict[str, list[int]]) -> bool:
    return sum(np.prod(shape, dtype=object) for shape in shapes.values()) <= _FEW_ELEMENTS


def _verify(random: Random, recipe: Recipe, path: Path) -> None:
    source = path.parent.parent / "source.onnx"
    source.write_bytes(recipe.origin.source)
    try:
        with silence():
            dlaconv.verify(source, path, samples=1, seed=random.getrandbits(8), plugins=plugins())
    except UserError as error:
        explained(error)
    except MemoryError:
        return


def _strip(random: Random, path: Path, out: Path) -> None:
    output = out / "stripped.onnx"
    try:
        with silence():
            dlaconv.strip(path, output)
    except UserError as error:
        explained(error)
        _nothing_in(out)
    except MemoryError:
        _nothing_in(out)
    else:
        onnx.load(output)
