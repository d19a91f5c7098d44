"""The plugins of one run: built-ins first, then third parties, each kept from harming the rest."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import PluginError, UsageError
from dlaconv.frontends import Frontend
from dlaconv.hookspecs import HOOKS, PROJECT, Hooks

if TYPE_CHECKING:
    from dlaconv.backends.access.rules import Rule
    from dlaconv.ir.pipeline import Pass
    from dlaconv.ir.stages import Stage

BUILT_IN = (
    "dlaconv.frontends.caffe",
    "dlaconv.frontends.keras",
    "dlaconv.frontends.onnx",
    "dlaconv.frontends.qonnx",
)
SELECTION = "DLACONV_PLUGINS"
"""Environment variable: the third-party plugins to load, comma-separated; empty for none."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OWN_DISTRIBUTION = "dlaconv"


@dataclass
class Plugin:
    """One plugin and what came of loading it.

    Attributes:
        name: the entry point's name, or the module of a built-in.
        distribution: name and version of the package that it came in.
        built_in: True for those that are part of dlaconv.
        hooks: the hooks that it implements.
        frontends: names of the frontends that it adds.
        problems: why it, or a part of it, is not used; empty if all is well.
    """

    name: str
    distribution: str = _OWN_DISTRIBUTION
    built_in: bool = False
    hooks: tuple[str, ...] = ()
    frontends: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name!r} of {self.distribution}"

    def note(self, problem: str) -> None:
        """Adds a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def as_json(self) -> dict[str, Any]:
        """The plugin as JSON values."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "built_in": self.built_in,
            "hooks": list(self.hooks),
            "frontends": list(self.frontends),
            "problems": list(self.problems),
        }


class Plugins:
    """The loaded plugins, and what they contribute.

    An object, not a module-level registry: each run of the command line, and each test, has its
    own. Whatever a third party's code does wrong ends up in `Plugin.problems`.

    Attributes:
        all: every plugin found, also broken ones.
    """

    def __init__(self, *, third_parties: bool = True) -> None:
        """Loads the built-ins and, unless told otherwise, the installed third-party plugins.

        Args:
            third_parties: False leaves out whatever is installed beside dlaconv.
        """
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._working: list[tuple[Plugin, object]] = []
        self._claims: dict[str, list[tuple[Plugin, Frontend]]] = {}
        self.all: list[Plugin] = []
        for module in BUILT_IN:
            self.add(import_module(module), Plugin(module, built_in=True))
        if third_parties:
            for point in _selected(entry_points(group=PROJECT)):
                self._add_entry_point(point)

    def add(self, implementation: object, plugin: Plugin) -> None:
        """Registers a module or object as plugin; problems are noted, not raised.

        Args:
            implementation: what has the hook functions.
            plugin: its description, completed here.
        """
        self.all.append(plugin)
        key = f"{plugin.distribution}:{plugin.name}:{len(self.all)}"
        try:
            if self._manager.register(implementation, key) is None:
                raise ValueError("blocked")
        except Exception as error:  # whatever a third party's attributes do
            plugin.note(_reason(error))
            self._forget(implementation)
            return
        callers = self._manager.get_hookcallers(implementation) or []
        plugin.hooks = tuple(name for name in HOOKS if name in {c.name for c in callers})
        for caller in callers:
            if not caller.has_spec():
                near = difflib.get_close_matches(caller.name, HOOKS, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                plugin.note(f"there is no hook {caller.name!r}{hint}")
        if not callers:
            plugin.note("implements no hook (is @dlaconv.hookimpl missing?)")
        if plugin.problems:  # a misspelt hook is half a plugin: none of it is used
            self._forget(implementation)
            return
        self._working.append((plugin, implementation))
        self._claim_frontends(plugin)

    @property
    def frontends(self) -> dict[str, Frontend]:
        """The frontends by name; of a name that two plugins claim, the first one's."""
        return {name: claims[0][1] for name, claims in sorted(self._claims.items())}

    @property
    def broken(self) -> list[Plugin]:
        """The plugins with problems."""
        return [plugin for plugin in self.all if plugin.problems]

    def frontend(self, name: str) -> Frontend:
        """The frontend of a name.

        Raises:
            UsageError: if there is none.
            PluginError: if two plugins claim the name.
        """
        claims = self._claims.get(name)
        if not claims:
            known = ", ".join(sorted(self._claims))
            raise UsageError(
                Diagnostic(
                    "DLA411",
                    "unknown-frontend",
                    f"there is no frontend {name!r}",
                    help=f"known frontends: {known}; `dlaconv plugins` lists broken ones",
                )
            )
        if len(claims) > 1:
            owners = " and ".join(str(plugin) for plugin, _ in claims)
            raise PluginError(
                Diagnostic(
                    "DLA451",
                    "frontend-claimed-twice",
                    f"frontend {name!r} is claimed by plugins {owners}",
                    help=f"uninstall one of them, or name the plugins to load in {SELECTION}",
                )
            )
        return claims[0][1]

    def owner(self, frontend: str) -> Plugin:
        """The plugin that a frontend comes from."""
        return self._claims[frontend][0][0]

    def recognise(self, files: Sequence[Path]) -> list[str]:
        """Names of the frontends whose format one of the files has."""
        return [
            name
            for name, claims in sorted(self._claims.items())
            if any(self._sniffs(*claim, file) for claim in claims for file in files)
        ]

    def layers(self, frontend: str) -> dict[str, Callable[..., Any]]:
        """The layer handlers that plugins add to a frontend."""
        found: dict[str, Callable[..., Any]] = {}
        owners: dict[str, Plugin] = {}
        for plugin, handlers in self._call("register_layers", frontend=frontend):
            if not isinstance(handlers, Mapping):
                plugin.note(f"register_layers returned {_kind(handlers)}, no mapping")
                continue
            for name, handler in handlers.items():
                if name in owners:
                    raise PluginError(
                        Diagnostic(
                            "DLA452",
                            "layer-claimed-twice",
                            f"layer {name!r} of frontend {frontend!r} is claimed by plugins "
                            f"{owners[name]} and {plugin}",
                            help=f"name the plugins to load in {SELECTION}",
                        )
                    )
                owners[name], found[name] = plugin, handler
        return found

    def passes(self, stage: Stage) -> list[Pass]:
        """The passes that plugins add at the end of a stage."""
        from dlaconv.ir.pipeline import Pass

        return self._collect("register_passes", Pass, stage=stage)

    def rules(self) -> list[Rule]:
        """The compliance rules that plugins add; those whose id is taken are left out."""
        from dlaconv.backends.access.rules import RULES, Rule

        taken = {rule.id.lower() for rule in RULES}
        found: list[Rule] = []
        for plugin, _ in self._working:
            for rule in self._collect("register_rules", Rule, only=plugin):
                if rule.id.lower() in taken or rule.id.upper().startswith("DLA"):
                    plugin.note(f"rule id {rule.id!r} is taken")
                    continue
                taken.add(rule.id.lower())
                found.append(rule)
        return found

    def commands(self) -> Iterator[tuple[Plugin, Any]]:
        """The typer application of each plugin that adds commands."""
        import typer

        for plugin, _ in self._working:
            app = typer.Typer(add_completion=False)
            list(self._call("register_commands", only=plugin, app=app))
            if app.registered_commands or app.registered_groups:
                yield plugin, app

    def _add_entry_point(self, point: EntryPoint) -> None:
        source = point.dist
        origin = f"{source.name} {source.version}" if source else "an unknown package"
        plugin = Plugin(point.name, origin)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                implementation = point.load()
        except (Exception, SystemExit) as error:
            plugin.note(_reason(error))
            self.all.append(plugin)
            return
        self.add(implementation, plugin)

    def _claim_frontends(self, plugin: Plugin) -> None:
        for found in self._collect("register_frontends", Frontend, only=plugin):
            if problem := _frontend_problem(found):
                plugin.note(problem)
                continue
            claims = self._claims.get(found.name, [])
            if claims and claims[0][0].built_in:
                plugin.note(f"frontend {found.name!r} belongs to dlaconv itself")
                continue
            for other, _ in claims:
                plugin.note(f"frontend {found.name!r} is also claimed by {other}")
                other.note(f"frontend {found.name!r} is also claimed by {plugin}")
            self._claims[found.name] = [*claims, (plugin, found)]
            plugin.frontends.append(found.name)

    def _collect(
        self, hook: str, kind: type, *, only: Plugin | None = None, **arguments: Any
    ) -> list[Any]:
        found: list[Any] = []
        for plugin, result in self._call(hook, only=only, **arguments):
            if not isinstance(result, Sequence):
                plugin.note(f"{hook} returned {_kind(result)}, no sequence")
                continue
            for item in result:
                if isinstance(item, kind):
                    found.append(item)
                else:
                    plugin.note(f"{hook} returned {_kind(item)}, no {kind.__name__}")
        return found

    def _call(
        self, hook: str, *, only: Plugin | None = None, **arguments: Any
    ) -> Iterator[tuple[Plugin, Any]]:
        for plugin, implementation in self._working:
            if hook not in plugin.hooks or (only is not None and plugin is not only):
                continue
            others = [other for _, other in self._working if other is not implementation]
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    caller = self._manager.subset_hook_caller(hook, others)
                    results = caller(**arguments)
            except (Exception, SystemExit) as error:
                plugin.note(f"{hook}: {_reason(error)}")
                continue
            for result in results:
                yield plugin, result

    def _sniffs(self, plugin: Plugin, frontend: Frontend, file: Path) -> bool:
        try:
            return bool(frontend.sniff(file))
        except Exception as error:
            plugin.note(f"frontend {frontend.name!r}, sniff: {_reason(error)}")
            return False

    def _forget(self, implementation: object) -> None:
        if self._manager.is_registered(implementation):
            self._manager.unregister(implementation)


def _selected(points: Sequence[EntryPoint] | Any) -> list[EntryPoint]:
    chosen = os.environ.get(SELECTION)
    names = None if chosen is None else {name.strip() for name in chosen.split(",")}
    return [point for point in points if names is None or point.name in names]


def _frontend_problem(frontend: Frontend) -> str:
    name = frontend.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"frontend name {name!r} is not made of lower-case letters, digits and hyphens"
    try:
        parameters = list(inspect.signature(frontend.load).parameters.values())
    except (TypeError, ValueError) as error:
        return f"frontend {name!r}: {_reason(error)}"
    if not parameters or parameters[0].default is not parameters[0].empty:
        return f"frontend {name!r}: the first parameter of load must be the file"
    return ""


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
