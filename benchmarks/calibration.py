"""Calibrates a float network of ResNet-50's size, beside onnxruntime.quantization.

Whole processes in turn: ``dlaconv from-onnx --calibrate`` (reading, legalising, calibrating,
scales, weights, writing, rules) and ``quantize_static`` (calibrating, writing) with its percentile
and its minimum/maximum method; then dlaconv with ten times as many pictures, to see that memory is
flat.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import float_networks
from benchmarks.measuring import HEADER, compare, measure

_COUNT, _MORE = 32, 320
_MEGABYTE = 1 << 20
_PEER = """
import sys
import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static,
)
source, data, target, method = sys.argv[1:]
class Reader(CalibrationDataReader):
    def __init__(self):
        self.rows = ({"x": np.array(row[None])} for row in np.load(data, mmap_mode="r"))
    def get_next(self):
        return next(self.rows, None)
quantize_static(
    source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
    activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
    calibrate_method=getattr(CalibrationMethod, method),
    extra_options={"ActivationSymmetric": True},
)
"""


def main() -> None:
    """Prints a table of times and peaks, and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--optimise", default="1", choices=("0", "1", "2"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source, few, many = (folder / name for name in ("net.onnx", "few.npy", "many.npy"))
        target, peer = folder / "net.dla.onnx", folder / "peer.onnx"
        float_networks.resnet50(source)
        float_networks.images(few, _COUNT)
        float_networks.images(many, _MORE)

        def ours(data: Path) -> list[str]:
            words = ["from-onnx", source, "-o", target, "--calibrate", data, "--no-verify", "-q"]
            words += ["--optimise", options.optimise, "--allow-violations"]
            return [sys.executable, "-m", "dlaconv", *map(str, words)]

        def reset() -> None:
            for path in (target, peer):
                path.unlink(missing_ok=True)

        print(f"{'':12}{HEADER}")
        for method in ("Percentile", "MinMax"):
            words = [str(item) for item in (source, few, peer, method)]
            theirs = [sys.executable, "-c", _PEER, *words]
            found = compare(ours(few), theirs, options.rounds, reset)
            print(f"{method:12}{found.row()}", flush=True)
        small, large = (measure(ours(data)).peak / _MEGABYTE for data in (few, many))
        print(f"peak with {_COUNT} pictures {small:.0f} MB, with {_MORE} {large:.0f} MB")


if __name__ == "__main__":
    main()
