"""Post-training quantisation side by side: ``python -m benchmarks.ptq --models DIR --peers DIR``.

Every network is quantised by every tool on the same images and judged on others. Each runs in a
process of its own; time counts from its start to the quantised file, imports included, and memory
is its peak until then. Writes a table in Markdown and the figures in JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ptq.install import find_peer
from benchmarks.ptq.methods import FLOAT, METHODS, Method
from benchmarks.ptq.networks import NETWORKS, Data, Network
from benchmarks.ptq.scores import scores
from benchmarks.ptq.table import markdown

_WORKERS = Path(__file__).parent / "workers"


def main() -> None:
    """Measures, and writes the table after each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="folder with onnx/ and data/")
    parser.add_argument("--peers", type=Path, required=True, help="folder of the peers")
    for item in ("--network", "--method"):
        parser.add_argument(item, action="append", default=[], help="part of a name; repeatable")
    parser.add_argument("--calibration-images", type=int, default=100)
    parser.add_argument("--images", type=int, default=3000, help="to judge on, at most")
    parser.add_argument("--photographs", type=int, default=200, help="where there are no labels")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one worker")
    parser.add_argument("-o", "--output", type=Path, default=Path("ptq.md"), help="and .json")
    options = parser.parse_args()
    peers = options.peers.absolute()
    methods = _chosen(METHODS, options.method)
    results = []
    for network in _chosen(NETWORKS, options.network):
        with tempfile.TemporaryDirectory() as name:
            bench = _Bench(network, options, Path(name))
            rows = list(bench.rows(methods, peers, options.timeout))
        results.append({"network": network.name, **bench.facts(), "rows": rows})
        options.output.write_text(markdown(results), "utf-8")
        text = json.dumps({"networks": results}, indent=1)
        options.output.with_suffix(".json").write_text(text, "utf-8")
    print(options.output.read_text("utf-8"), end="")


def _chosen(items: Sequence[Any], parts: Sequence[str]) -> list[Any]:
    """Those whose names contain one of the parts; all without parts."""
    return [item for item in items if not parts or any(part in item.name for part in parts)]


class _Bench:
    """One network, its data and the outputs of its float version."""

    def __init__(self, network: Network, options: argparse.Namespace, folder: Path) -> None:
        self._folder = folder
        self._model = folder / "float.onnx"
        self._input = network.write(options.models, self._model)
        images = options.images if network.labelled else options.photographs
        self._data: Data = network.data(options.models, options.calibration_images, images)
        np.save(folder / "calibration.npy", self._data.calibration)
        np.save(folder / "evaluation.npy", self._data.evaluation)
        self._name = network.name

    def facts(self) -> dict[str, int]:
        return {
            "images": len(self._data.evaluation),
            "calibration_images": len(self._data.calibration),
        }

    def rows(
        self, methods: Sequence[Method], peers: Path, timeout: float
    ) -> Iterator[dict[str, Any]]:
        """Figures of the float network and of every method."""
        floats = np.empty(0)
        for method in (FLOAT, *methods):
            row = self._run(method, peers, timeout)
            if "problem" not in row:
                outputs = np.load(self._folder / method.worker / "outputs.npy")
                floats = outputs if method is FLOAT else floats
                row |= scores(outputs, floats, self._data.labels)
            print(f"{self._name:42} {json.dumps(row)}", file=sys.stderr, flush=True)
            yield row

    def _run(self, method: Method, peers: Path, timeout: float) -> dict[str, Any]:
        row: dict[str, Any] = {"method": method.name, "scheme": method.scheme}
        python: Path | None = Path(sys.executable)
        if method.peer is not None:
            peer = find_peer(method.peer, peers)
            python = peer.python
            if python is None:
                return {**row, "problem": peer.problem}
        folder = self._folder / method.worker
        folder.mkdir(exist_ok=True)
        for left in ("result.json", "outputs.npy"):
            (folder / left).unlink(missing_ok=True)
        job = {
            "model": str(self._model),
            "input": self._input,
            "calibration": str(self._folder / "calibration.npy"),
            "evaluation": str(self._folder / "evaluation.npy"),
            "folder": str(folder),
            "options": method.options,
        }
        file = folder / "job.json"
        file.write_text(json.dumps(job), "utf-8")
        command = [str(python), str(_WORKERS / f"{method.worker}.py"), str(file)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, cwd=folder, check=False
            )
        except subprocess.TimeoutExpired:
            return {**row, "problem": f"took more than {timeout:.0f} s"}
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "failed").splitlines()
            return {**row, "problem": said[-1][:200].replace("|", "/")}
        return {**row, **json.loads((folder / "result.json").read_text("utf-8"))}


if __name__ == "__main__":
    main()
