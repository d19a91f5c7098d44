"""Reads and converts Keras models, beside Keras and tf2onnx: ``python -m benchmarks.keras``.

Whole processes in turn. To read: `dlaconv.load`, beside ``keras.models.load_model``. To convert:
``dlaconv from-keras``, which quantises for the accelerator, writes, reads back and checks all
rules, beside loading and ``tf2onnx.convert.from_keras``, which writes ONNX in floating point.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import HEADER, compare, measure
from benchmarks.peers import peer_python

NETWORKS = {
    "MobileNet": "MobileNet((96, 96, 3), alpha=0.25, weights=None, classes=2)",
    "ResNet-50": "ResNet50(weights=None)",
}
"""Calls of functions of `keras.applications`; the weights are random."""
_MAKE = "import sys, keras; keras.applications.{}.save(sys.argv[1])"
_READ = "import sys, dlaconv; dlaconv.load(sys.argv[1], 'keras')"
_LOAD = "import sys, keras; model = keras.models.load_model(sys.argv[1], compile=False)\n"
_EXPORT = """
import onnx, tensorflow as tf, tf2onnx
signature = [tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, "x")]
proto, _ = tf2onnx.convert.from_keras(model, signature, opset=18, inputs_as_nchw=["x"])
onnx.save(proto, sys.argv[2])
"""


def main() -> None:
    """Prints a table of times and peaks, and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="a Python with TensorFlow and tf2onnx")
    options = parser.parse_args()
    peer = str(peer_python(options.peer, "keras"))
    print(f"{'':22}{HEADER}")
    with tempfile.TemporaryDirectory() as name:
        for network, call in NETWORKS.items():
            _network(Path(name), network, call, peer, options.rounds)


def _network(folder: Path, network: str, call: str, peer: str, rounds: int) -> None:
    source, ours, theirs = (
        str(folder / f"{network}{end}") for end in (".keras", ".dla.onnx", ".onnx")
    )
    measure([peer, "-c", _MAKE.format(call), source])
    command = [sys.executable, "-m", "dlaconv", "from-keras", source, "-o", ours]
    command += ["--calibrate", "random", "--no-verify"]
    pairs = {
        "read": ([sys.executable, "-c", _READ, source], [peer, "-c", _LOAD, source]),
        "converted": (command, [peer, "-c", _LOAD + _EXPORT, source, theirs]),
    }

    def reset() -> None:
        for path in folder.iterdir():
            if str(path) != source:
                path.unlink()

    for done, (mine, other) in pairs.items():
        print(f"{network + ', ' + done:22}{compare(mine, other, rounds, reset).row()}", flush=True)


if __name__ == "__main__":
    main()
