"""The ways of quantising that are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: in the table.
        peer: whose environment it runs in, one of `benchmarks.ptq.install.PEERS`; ours if None.
        worker: script in ``workers/``.
        scheme: what the quantised network is made of.
        options: for the worker.
    """

    name: str
    peer: str | None
    worker: str
    scheme: str
    options: dict[str, Any] = field(default_factory=dict)


FLOAT = Method("float", None, "run_float", "")
_ACCESS = "all limits of ACCESS"
_FLOAT_SCALES = "float scales, weights per channel"
_ESP = "powers of two, weights per channel"

METHODS = (
    Method("dlaconv", None, "run_dlaconv", _ACCESS),
    Method("dlaconv --optimise 2", None, "run_dlaconv", _ACCESS, {"optimise": 2}),
    Method(
        "dlaconv --optimise 2 --io absorb",
        None,
        "run_dlaconv",
        f"{_ACCESS}, inputs and outputs in steps of their own",
        {"optimise": 2, "io": "absorb"},
    ),
    Method("esp-ppq kl", "espppq", "run_espppq", _ESP, {"algorithm": "kl"}),
    Method("esp-ppq mse", "espppq", "run_espppq", _ESP, {"algorithm": "mse"}),
    Method("Quark VINT8", "quark", "run_quark", _ESP),
    Method("ORT MinMax", "onnxruntime", "run_onnxruntime", _FLOAT_SCALES, {"method": "MinMax"}),
    Method(
        "ORT Percentile",
        "onnxruntime",
        "run_onnxruntime",
        _FLOAT_SCALES,
        {"method": "Percentile"},
    ),
    Method(
        "ORT Percentile symmetric",
        "onnxruntime",
        "run_onnxruntime",
        "float scales, no zero points, weights per channel",
        {"method": "Percentile", "symmetric": True},
    ),
)  # fmt: skip
