"""The environment of the peers: made once, or given with --peer."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "requirements-qonnx.txt"


def peer_python(given: Path | None) -> Path:
    """The Python of an environment with qonnx; makes ``benchmarks/.peers`` if none is given."""
    if given is not None:
        return given
    folder = _HERE / ".peers"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = folder / _REQUIREMENTS.name
    if not done.exists() or done.read_bytes() != _REQUIREMENTS.read_bytes():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-qr", _REQUIREMENTS], check=True)
        done.write_bytes(_REQUIREMENTS.read_bytes())
    return python
