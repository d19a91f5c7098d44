"""Programs that need TensorFlow, each in a process of its own.

TensorFlow takes seconds to import and much memory, and aborts its process on some errors; so ours
only waits for it, and not for ever.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from dlaconv.diagnostics import Diagnostic, Location

INSTALL = "pip install 'dlaconv[tensorflow]'"
_SECONDS = 600
_TOLD, _LONGEST, _MOST_TOLD = 8, 400, 1 << 14
"""Lines, their length, and bytes they are taken from, of what a program said before it failed."""
_LOG = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl")
"""What TensorFlow logs whenever it is imported."""
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}


def absent(modules: Sequence[str]) -> list[str]:
    """Those of several top-level modules that are not installed; none of them is imported."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def run_python(
    program: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
) -> tuple[str, ...]:
    """Runs a program in this interpreter's environment; the current folder has no modules for it.

    Args:
        program: ``-m`` with a module, or a file; then what it is given.
        environment: variables of the environment, beside those that there are.
        seconds: when it is ended.

    Returns:
        Why it failed, and its last words; nothing if it has not.
    """
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-W", "ignore", *program],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, **_ENVIRONMENT, **(environment or {})},
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return (f"it was ended after {seconds:g} s",)
        except OSError as error:
            return (f"it did not start: {error}",)
        if done.returncode == 0:
            return ()
        said.seek(max(0, said.seek(0, os.SEEK_END) - _MOST_TOLD))
        lines = said.read().decode(errors="replace").splitlines()
    how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
    words = [line.rstrip()[:_LONGEST] for line in lines if line.strip() and not _LOG.match(line)]
    return (how, *words[-_TOLD:])


def failed(file: str, what: str, words: Sequence[str], remedy: str) -> Diagnostic:
    """TensorFlow did not do what it was asked to.

    Args:
        file: the model.
        what: what it was asked to do, "could not ...".
        words: why, and its last words; see `run_python`.
        remedy: what a user can do.
    """
    return Diagnostic(
        "DLA183",
        "tensorflow-failed",
        f"TensorFlow could not {what}: {words[0]}",
        location=Location(file=file),
        help=remedy,
        notes=tuple(words[1:]),
    )
