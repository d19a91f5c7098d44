"""The hooks of dlaconv: what a plugin may add.

A plugin is a module (or object) with functions named after these hooks and marked with
`dlaconv.hookimpl`, announced as an entry point of the group ``dlaconv``. ``docs/plugins.md`` shows
each hook at work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import typer

    from dlaconv.backends.access.rules import Rule
    from dlaconv.frontends import Frontend
    from dlaconv.ir.pipeline import Pass
    from dlaconv.ir.stages import Stage

PROJECT = "dlaconv"
"""Name of the hook markers and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the functions of a plugin that implement a hook."""


class Hooks(Protocol):
    """Every hook, with the types that an implementation has."""

    @hookspec
    def register_frontends(self) -> Sequence[Frontend]:
        """Source formats to add.

        Each one becomes a command ``dlaconv from-<name>`` and takes part in ``dlaconv convert``.

        Returns:
            The frontends; their names must be free.
        """

    @hookspec
    def register_layers(self, frontend: str) -> Mapping[str, Callable[..., Any]]:
        """Layer types to add to a frontend that is there already.

        Args:
            frontend: name of the frontend that asks.

        Returns:
            Handlers by operator, called as the frontend's own handlers are; a handler for an
            operator that the frontend knows replaces its own. Empty for other frontends.
        """

    @hookspec
    def register_passes(self, stage: Stage) -> Sequence[Pass]:
        """Passes to run at the end of a stage.

        Args:
            stage: the stage that the model is about to reach.

        Returns:
            The passes in the order to run them; the stage's invariants must hold after each.
        """

    @hookspec
    def register_rules(self) -> Sequence[Rule]:
        """Compliance rules to add to ``dlaconv check``.

        Returns:
            The rules; their ids must be free and must not start with ``DLA``.
        """

    @hookspec
    def register_commands(self, app: typer.Typer) -> None:
        """Commands to add to ``dlaconv``.

        Args:
            app: an application of the plugin's own; each command registered with
                ``@app.command()`` appears beside the built-in ones.
        """


HOOKS = tuple(name for name in vars(Hooks) if name.startswith("register_"))
"""The names of all hooks."""
