"""Installs the peers into environments of their own: ``python -m benchmarks.ptq.install DIR``.

About 4 GB in all, most of it torch. A peer that cannot be installed is reported and left out; what
is installed already, from the same requirements, stays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

_REQUIREMENTS = Path(__file__).parent / "requirements"
PEERS = tuple(sorted(path.stem for path in _REQUIREMENTS.glob("*.txt")))
"""Names of the peers; each has a file of requirements, in steps between lines of ``---``."""
_STATE = "installed.json"


@dataclass(frozen=True)
class Peer:
    """What came of an installation.

    Attributes:
        name: one of `PEERS`.
        python: its interpreter, None if it could not be installed.
        problem: the last line of what pip said then.
    """

    name: str
    python: Path | None
    problem: str = ""


def find_peer(name: str, folder: Path) -> Peer:
    """The peer as it lies in the folder."""
    state = folder / name / _STATE
    if not state.is_file():
        return Peer(name, None, "not installed: python -m benchmarks.ptq.install")
    problem = json.loads(state.read_text("utf-8"))["problem"]
    return Peer(name, None if problem else _python(folder / name), problem)


def install(name: str, folder: Path, timeout: float) -> Peer:
    """Makes the environment of a peer unless it is there.

    Args:
        name: one of `PEERS`.
        folder: where the environments are.
        timeout: seconds that each step may take.
    """
    wanted = (_REQUIREMENTS / f"{name}.txt").read_text("utf-8")
    state = folder / name / _STATE
    if state.is_file():
        known = json.loads(state.read_text("utf-8"))
        if known["requirements"] == wanted and not known["problem"]:
            return find_peer(name, folder)
    venv.create(folder / name, with_pip=True, clear=True)
    problem = ""
    for index, step in enumerate(wanted.split("---\n")):
        file = folder / name / f"step{index}.txt"
        file.write_text(step, "utf-8")
        problem = _pip(_python(folder / name), file, timeout)
        if problem:
            break
    state.write_text(json.dumps({"requirements": wanted, "problem": problem}), "utf-8")
    return find_peer(name, folder)


def _pip(python: Path, requirements: Path, timeout: float) -> str:
    """Installs what a file lists; returns what went wrong, in one line."""
    command = [str(python), "-m", "pip", "install", "-qr", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"pip took more than {timeout:.0f} s"
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (lines or ["pip failed"])[-1] if done.returncode else ""


def _python(folder: Path) -> Path:
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def main() -> None:
    """Prints what came of each peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the environments go")
    parser.add_argument("--only", choices=PEERS, action="append", help="repeatable; default: all")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for a step of pip")
    options = parser.parse_args()
    folder = options.folder.absolute()
    for name in options.only or PEERS:
        peer = install(name, folder, options.timeout)
        print(f"{name:12} {peer.problem or peer.python}", flush=True)


if __name__ == "__main__":
    main()
