"""The exceptions of dlaconv: a user's fault carries diagnostics, our own names pass and node."""

from __future__ import annotations

from collections.abc import Iterable

from dlaconv.diagnostics import Diagnostic, Diagnostics

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREADABLE = 3
EXIT_INTERNAL = 70


class DlaconvError(Exception):
    """Base of every exception that dlaconv raises on purpose.

    Attributes:
        exit_code: what the command line returns when this error ends it.
    """

    exit_code = EXIT_INTERNAL


class UserError(DlaconvError):
    """Something the user can mend; carries every diagnostic found, not just the first.

    Attributes:
        diagnostics: what is wrong.
        advice: what to do about all of it at once, the last line that a user sees; often empty.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic], advice: str = "") -> None:
        if isinstance(diagnostics, Diagnostic):
            diagnostics = [diagnostics]
        self.diagnostics = Diagnostics(diagnostics)
        self.advice = advice
        super().__init__(str(self.diagnostics))


class UnreadableError(UserError):
    """A file cannot be parsed, or refers to data that is missing or out of bounds."""

    exit_code = EXIT_UNREADABLE


class UsageError(UserError):
    """Options that do not fit each other or the file."""

    exit_code = EXIT_USAGE


class ConversionError(UserError):
    """The network was read, but cannot be converted exactly or legally."""


class PluginError(UserError):
    """A plugin is broken or two plugins claim one name."""

    exit_code = EXIT_USAGE


class InternalError(DlaconvError):
    """A bug of ours: an invariant does not hold after a pass.

    Attributes:
        pass_name: the pass after which the invariant was found broken.
        node: name of the node concerned, when there is one.
    """

    def __init__(self, message: str, *, pass_name: str = "", node: str = "") -> None:
        self.pass_name = pass_name
        self.node = node
        where = f"pass '{pass_name}': " if pass_name else ""
        at = f" (node '{node}')" if node else ""
        super().__init__(f"{where}{message}{at}; this is a bug in dlaconv, please report it")
