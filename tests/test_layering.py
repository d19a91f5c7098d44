"""Who may import whom, and when: the layers of the architecture."""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"][
    "package-dir"
]
MESSAGES = ("dlaconv.diagnostics", "dlaconv.errors")
HEAVY = ("google", "h5py", "numpy", "onnx", "onnx_ir", "onnxruntime", "tensorflow", "torch")
DRIVER = "dlaconv.driver"


@dataclass(frozen=True)
class Import:
    """One imported module: where, and whether it is read when the file is."""

    file: str
    line: int
    name: str
    at_once: bool
    for_types: bool

    def __str__(self):
        return f"{self.file}:{self.line} imports {self.name}"


def modules():
    """Every module of the project, by its dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join([package, *parts])] = path
    return found


MODULES = modules()


def imports_of(source, file=""):
    """The imports of a module; ``from a import b`` counts as a.b where that is a module."""

    def visit(node, *, at_once, for_types):
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                whole = [f"{child.module}.{alias.name}" for alias in child.names]
                names = [name if name in MODULES else child.module for name in whole]
            for name in names:
                yield Import(file, child.lineno, name, at_once and not for_types, for_types)
            inner = at_once and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from visit(child, at_once=at_once, for_types=True)
            else:
                yield from visit(child, at_once=inner, for_types=for_types)

    return list(visit(ast.parse(source), at_once=True, for_types=False))


IMPORTS = {
    name: imports_of(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    for name, path in MODULES.items()
}


def within(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def layer(name):
    """The layer of a module of ours: core, frontends, ir, backends or schemas."""
    part = name.removeprefix("dlaconv").lstrip(".").partition(".")[0]
    return part if f"dlaconv.{part}" in FOLDERS else "core"


def offences(allowed):
    """The imports of our own modules that ``allowed(importer, import)`` does not permit."""
    return [
        str(item)
        for name, found in sorted(IMPORTS.items())
        for item in found
        if within(item.name, "dlaconv") and not allowed(name, item)
    ]


def permitted(name, item):
    own = layer(name)
    if own == "ir":
        return within(item.name, "dlaconv.ir", *MESSAGES)
    if own in {"frontends", "backends"}:
        extra = ("dlaconv.hookspecs",) if own == "frontends" else ()
        return within(item.name, f"dlaconv.{own}", "dlaconv.ir", *MESSAGES, *extra)
    return own != "schemas"


def test_the_layers_import_only_what_is_below_them():
    assert offences(permitted) == []


def permitted_in_core(name, item):
    """The driver sees all; the rest of core knows of other layers what its types are made of."""
    if layer(name) != "core" or within(name, DRIVER) or item.for_types:
        return True
    if layer(item.name) == "core" or within(item.name, "dlaconv.schemas"):
        return True
    return name in SEES.get(item.name, ())


SEES = {
    # The contract of a frontend is all that the shell knows of frontends.
    "dlaconv.frontends": ("dlaconv.plugins", "dlaconv.source_options"),
    # The types of what hooks return.
    "dlaconv.backends.access.rules": ("dlaconv.plugins",),
    "dlaconv.ir.pipeline": ("dlaconv.plugins",),
}


def test_only_the_driver_sees_all():
    assert offences(permitted_in_core) == []


def test_every_exception_is_needed():
    used = {(item.name, name) for name, found in IMPORTS.items() for item in found}
    unused = {(item, name) for item, names in SEES.items() for name in names} - used
    assert unused == set()


def test_only_the_command_line_imports_the_driver():
    users = {
        name
        for name, found in IMPORTS.items()
        for item in found
        if within(item.name, DRIVER) and not within(name, DRIVER) and not item.for_types
    }
    assert users <= {
        "dlaconv.analysis",
        "dlaconv.api",
        "dlaconv.commands.formats",
        "dlaconv.commands.inspection",
    }


def reached_at_once(*start):
    """The modules that are read when those of ``start`` are."""
    seen, queue = set(), list(start)
    while queue:
        name = queue.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        queue += [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
        queue += [item.name for item in IMPORTS[name] if item.at_once]
    return seen


def test_nothing_that_the_help_reads_imports_a_heavy_library():
    from dlaconv.plugins import BUILT_IN

    heavy = [
        str(item)
        for name in sorted(reached_at_once("dlaconv.cli", *BUILT_IN))
        for item in IMPORTS[name]
        if item.at_once and within(item.name, *HEAVY)
    ]
    assert heavy == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import dlaconv.ir.graph", [("dlaconv.ir.graph", True, False)]),
        ("from dlaconv.ir import graph", [("dlaconv.ir.graph", True, False)]),
        ("from dlaconv.ir.graph import is_op", [("dlaconv.ir.graph", True, False)]),
        ("def f():\n    import numpy", [("numpy", False, False)]),
        ("class A:\n    import numpy", [("numpy", True, False)]),
        ("try:\n    import numpy\nexcept ImportError: pass", [("numpy", True, False)]),
        ("if TYPE_CHECKING:\n    import numpy", [("numpy", False, True)]),
    ],
)
def test_imports_are_seen_wherever_they_are(source, found):
    assert [(item.name, item.at_once, item.for_types) for item in imports_of(source)] == found
