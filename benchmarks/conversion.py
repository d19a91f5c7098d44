"""Conversion beside qonnx-cleanup, whole processes: ``python -m benchmarks.conversion``.

qonnx-cleanup is the first step of every QONNX flow: it reads the file, infers shapes, folds
constants and names things. dlaconv does that, assigns scales, writes the accelerator's file, reads
it back and checks it. Both write to a file that is not there yet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import HEADER, compare, measure
from benchmarks.peers import peer_python

NETWORKS = ("resnet18", "vgg16")


def main() -> None:
    """Prints a row for each network and way of converting it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each command")
    parser.add_argument("--peer", type=Path, help="a Python with qonnx; default: made once")
    options = parser.parse_args()
    peer = peer_python(options.peer)
    print(f"{'network, scales, dlaconv from-qonnx':52}|{HEADER}")
    with tempfile.TemporaryDirectory() as name:
        for network in options.networks:
            for power_of_two in (False, True):
                _compare(network, Path(name), peer, options.rounds, power_of_two=power_of_two)


def _compare(network: str, folder: Path, peer: Path, rounds: int, *, power_of_two: bool) -> None:
    source, output, cleaned = (folder / name for name in ("net.onnx", "net.dla.onnx", "clean.onnx"))
    generator = [sys.executable, "-m", "benchmarks.networks", network, str(source)]
    measure([*generator, *["--power-of-two"] * power_of_two])
    ours = [sys.executable, "-m", "dlaconv", "from-qonnx", source, "-o", output]
    ours += ["--allow-violations"]
    cleanup = "from qonnx.util.cleanup import main; main()"
    theirs = [peer, "-c", cleanup, source, "--out-file", cleaned]

    def reset() -> None:
        output.unlink(missing_ok=True)
        cleaned.unlink(missing_ok=True)

    for words in ("--no-verify", "--samples 1"):
        command = [str(part) for part in (*ours, *words.split())]
        found = compare(command, [str(part) for part in theirs], rounds, reset)
        scales = "2^n" if power_of_two else "float"
        print(f"{f'{network}, {scales}, {words}':52}|{found.row()}", flush=True)


if __name__ == "__main__":
    main()
