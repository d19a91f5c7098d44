"""What every worker does: reads a job, quantises, says what that cost, writes the outputs.

A worker is a script of its own that runs in the environment of one tool, so this file imports
nothing but numpy. ``python run_TOOL.py JOB.json``; the job has ``model``, ``input`` (name of the
graph input), ``calibration`` and ``evaluation`` (``.npy``, stacked samples), ``folder`` and
``options``; the worker writes ``result.json`` and ``outputs.npy`` into the folder. Needs Linux.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

_PROCESS = Path("/proc/self")
_STARTED = 19
"""Place of the starting time among what /proc/self/stat has behind the name of the program."""


class Job:
    """The job that the command line names.

    Attributes:
        folder: where the worker may write.
        options: of the tool.
        calibration: samples to calibrate on, ``[N, ...]``.
        model: a copy of the float network; tools may change it.
        input: name of its input.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        self.folder = Path(self._values["folder"])
        self.options: dict[str, Any] = self._values["options"]
        self.input: str = self._values["input"]
        self.calibration = np.load(self._values["calibration"])
        self.model = self.folder / "source.onnx"
        shutil.copyfile(self._values["model"], self.model)
        self._result: dict[str, Any] = {}

    def quantised(self, **notes: object) -> None:
        """Quantisation is done: notes time and memory until now, and what else is to be told."""
        self._result = {
            "seconds": _age(),
            "cpu": sum(os.times()[:4]),
            "megabytes": _peak(),
            **notes,
        }

    def evaluate(self, run: Callable[[np.ndarray], np.ndarray], rows: int = 1) -> None:
        """Runs the samples and writes outputs and result.

        Args:
            run: from samples ``[rows, ...]`` to their outputs.
            rows: samples of one run.
        """
        samples = np.load(self._values["evaluation"])
        parts = (run(samples[first : first + rows]) for first in range(0, len(samples), rows))
        self._finish(
            row for part in parts for row in np.asarray(part).reshape(-1, *part.shape[-1:])
        )

    def _finish(self, outputs: Iterable[np.ndarray]) -> None:
        np.save(self.folder / "outputs.npy", np.stack([row.astype(np.float32) for row in outputs]))
        (self.folder / "result.json").write_text(json.dumps(self._result), "utf-8")


def onnxruntime_runner(model: Path, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Runs one sample of a float or QDQ file in float arithmetic: unoptimised, so not fused."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda sample: session.run(None, {name: sample})[0]


def _age() -> float:
    """Seconds since this process was started."""
    fields = (_PROCESS / "stat").read_text("ascii").rpartition(")")[2].split()
    started = int(fields[_STARTED]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _peak() -> float:
    """Largest resident memory of this process in MB, without what its parent had before it."""
    for line in (_PROCESS / "status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")
