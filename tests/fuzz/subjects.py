"""What mutants are put through: a conversion, or everything that reads an ACCESS file."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

import dlaconv
from dlaconv import options
from dlaconv.commands.inspection import Format
from dlaconv.commands.options import HardwareRounding
from dlaconv.errors import UserError
from tests.fuzz.corpus import QONNX
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
        subject = _convert if recipe.subject == QONNX else _read
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
    output = out / "net.dla.onnx"
    if random.random() < 0.25:
        return _convert_by_command(asked, path, output, as_json=random.random() < 0.5)
    frontend = random.choice((None, "qonnx", "qonnx"))
    try:
        with silence():
            wanted = options.Options(**asked)
            conversion = dlaconv.convert(
                path, output, frontend=frontend, options=wanted, plugins=plugins()
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
    asked: dict[str, Any] = {"verify": random.random() < 0.4}
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
    if asked["policy"] == "absorb":
        asked["io"] = random.choice(options.IO_MODES)
    if random.random() < 0.2:
        shape = random.choice(((1, 16, 6, 6), (1, 3, 8, 8), (1,), (2, 16, 6, 6), (1, 10**9, 10**9)))
        asked["shapes"] = {random.choice(("x", "input", "nothing")): shape}
    return asked


def _convert_by_command(
    asked: dict[str, Any], path: Path, output: Path, *, as_json: bool
) -> tuple[str, str]:
    words = {"policy": "scale-policy", "convention": "scale-convention"}
    arguments = ["from-qonnx", str(path), "-o", str(output)]
    for name, value in asked.items():
        option = f"--{words.get(name, name).replace('_', '-')}"
        if name == "shapes":
            for key, shape in value.items():
                arguments += ["--set-shape", f"{key}={','.join(map(str, shape))}"]
        elif name == "verify":
            arguments += [] if value else ["--no-verify"]
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
        errors = [item for item in document["diagnostics"] if item["severity"] == "error"]
        if not errors:
            raise BrokenPromiseError("a refusal without an error", str(document)[:500])
        rule = errors[0]["rule"]
    return (FAT, "") if rule == "DLA442" else (REFUSED, rule)


def _nothing_in(folder: Path) -> None:
    if left := sorted(path.name for path in folder.iterdir()):
        raise BrokenPromiseError("something is left in the output folder", ", ".join(left))


def _written(asked: dict[str, Any], output: Path) -> tuple[str, str]:
    """A written file must be whole, legal and runnable, and its report true to its schema."""
    names = {output.name, output.with_suffix(".json").name}
    if {path.name for path in output.parent.iterdir()} != names:
        raise BrokenPromiseError("the output is not the file and its report")
    report = check_report(output.with_suffix(".json"))
    try:
        with silence():
            checked = dlaconv.check(output, plugins=plugins())
            if not asked.get("unsigned_maps"):
                _run(output, dict(_inputs(report)), Random(0))
    except UserError as error:
        raise BrokenPromiseError(
            f"the written file is refused: {explained(error)}", str(error)
        ) from None
    lawful = asked.get("allow_violations") or asked.get("unsigned_maps")
    if checked.diagnostics.errors and not lawful:
        error = checked.diagnostics.errors[0]
        raise BrokenPromiseError(f"the written file breaks {error.rule}", str(error))
    verification = report.get("verification")
    passed = verification is None or verification["passed"]
    return (WRITTEN if passed else DIFFERS), ""


def _inputs(report: dict[str, Any]) -> list[tuple[str, list[int]]]:
    return [(entry["name"], entry["shape"]) for entry in report["io"]["inputs"]]


def _run(path: Path, shapes: dict[str, list[int]], random: Random) -> None:
    arrays = {name: _samples(shape, random) for name, shape in shapes.items()}
    dlaconv.run(
        path,
        arrays,
        rounding=random.choice(tuple(HardwareRounding)).value,
        activation_order=random.choice(options.ACTIVATION_ORDERS),
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
        if as_json and "diagnostics" not in document:  # a form of others
            return CHECKED, ""
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
    arguments = ["run", str(path), "--input", str(samples), "-o", str(output)]
    arguments += ["--as-float"] if random.random() < 0.3 else []
    arguments += ["--dump", str(out / "all.npz")] if random.random() < 0.3 else []
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
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in constants
    }
    sane = all(min(shape, default=1) > 0 for shape in shapes.values())
    small = sum(np.prod(shape, dtype=object) for shape in shapes.values()) <= _FEW_ELEMENTS
    return shapes if sane and small else {}


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
