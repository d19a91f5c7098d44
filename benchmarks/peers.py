"""The environments of the peers: each made once, or given with --peer."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

_HERE = Path(__file__).parent


def peer_python(given: Path | None, name: str = "qonnx") -> Path:
    """The Python of an environment with a peer, made in ``benchmarks/.peers`` if none is given.

    Args:
        given: a Python that has the peer.
        name: what the peer reads; ``requirements-<name>.txt`` says what to install.
    """
    if given is not None:
        return given
    requirements = _HERE / f"requirements-{name}.txt"
    folder = _HERE / ".peers" / f"{name}peers"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = folder / requirements.name
    if not done.exists() or done.read_bytes() != requirements.read_bytes():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-qr", requirements], check=True)
        done.write_bytes(requirements.read_bytes())
    return python
