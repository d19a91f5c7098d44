"""Converts VGG16 from Caffe, beside a PyPI converter and a copy: ``python -m benchmarks.caffe``.

Whole processes in turn: a plain copy of the caffemodel's bytes in Python, which ends when they are
on the disk, and ``dlaconv from-caffe`` with the options that make 8 bits of a network in floating
point as XportDNN does. Then caffe-onnx once, which takes minutes and 13 GB. All find the files
in the system's cache and write new ones.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import Comparison, Run, in_turn, measure, middle
from benchmarks.peers import peer_python

_COPY = """
import os, sys
with open(sys.argv[1], "rb") as source:
    data = source.read()
with open(sys.argv[2], "wb") as target:
    target.write(data)
    target.flush()
    os.fsync(target.fileno())
"""
_PEER = "from src.cli import main; main()"
_PRECISION = "--precision 8,8,8 --fl-bitwidths 4,7,4"
_MEGABYTE = 1 << 20


def main() -> None:
    """Prints a table of times and peaks, and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of the quick commands")
    parser.add_argument("--peer", type=Path, help="a Python with caffe-onnx; default: made once")
    parser.add_argument("--no-peer", action="store_true", help="leave caffe-onnx out")
    options = parser.parse_args()
    peer = None if options.no_peer else peer_python(options.peer, "caffe")
    with tempfile.TemporaryDirectory() as name:
        _measure(Path(name), options.rounds, peer)


def _measure(folder: Path, rounds: int, peer: Path | None) -> None:
    prototxt, caffemodel = folder / "vgg16.prototxt", folder / "vgg16.caffemodel"
    written = folder / "written"
    measure(_words(sys.executable, "-m", "benchmarks.caffe_networks", prototxt, caffemodel))
    output = written / "vgg16.dla.onnx"
    ours = _words(sys.executable, "-m", "dlaconv", "from-caffe", prototxt, caffemodel)
    ours += _words("-o", output, *_PRECISION.split())
    commands = {
        "copy": _words(sys.executable, "-c", _COPY, caffemodel, written / "copy"),
        "dlaconv --no-verify": [*ours, "--no-verify"],
        "dlaconv": ours,
    }

    def reset() -> None:
        """Removes what was written, and waits until nothing is on its way to the disk."""
        written.mkdir(exist_ok=True)
        for path in written.iterdir():
            path.unlink()
        os.sync()

    runs = dict(zip(commands, in_turn(list(commands.values()), rounds, reset), strict=True))
    if peer is not None:
        reset()
        converter = _words(peer, "-c", _PEER, prototxt, caffemodel, "vgg16", written)
        runs["caffe-onnx"] = [measure(converter)]
        if not (written / "vgg16.onnx").exists():
            raise RuntimeError("caffe-onnx has written nothing")
    print("\n".join(table(runs)))


def table(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """The lines of a table in Markdown: medians, and ratios to the copy and to caffe-onnx."""
    lines = [
        "| command | wall, s | CPU, s | peak, MB | times the copy | of caffe-onnx: wall | peak |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in runs.items():
        run = middle(found)
        cells = [f"{run.wall:.2f}", f"{run.cpu:.2f}", f"{run.peak / _MEGABYTE:.0f}"]
        copies = runs["copy"] if len(found) == len(runs["copy"]) else [middle(runs["copy"])]
        cells.append(f"{Comparison(found, copies).ratio('wall'):.2f}")
        if peer := runs.get("caffe-onnx"):
            cells += [f"1/{peer[0].wall / run.wall:.0f}", f"1/{peer[0].peak / run.peak:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _words(*parts: object) -> list[str]:
    return [str(part) for part in parts]


if __name__ == "__main__":
    main()
