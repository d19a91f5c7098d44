"""Time per image of the simulator, float onnxruntime and qonnx: ``python -m benchmarks.simulator``.

ResNet-18 at 224x224, one image, in three ways that take turns: the converted file in our bit-true
simulator, with what the host does to the image; the same network in float (its weights, no
quantisers) in onnxruntime with the simulator's session settings and the optimiser on; the cleaned
QONNX file in qonnx's executor, in an environment of its own. Sessions and models are kept; only
running is measured.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from benchmarks.measuring import measure
from benchmarks.networks import IMAGE
from benchmarks.peers import peer_python

_PEER = """
import sys, time
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model

model = cleanup_model(ModelWrapper(sys.argv[1]))
images = np.load(sys.argv[2])
name = model.graph.input[0].name
for line in sys.stdin:
    start = time.perf_counter()
    execute_onnx(model, {name: images})
    print(time.perf_counter() - start, flush=True)
"""


def main() -> None:
    """Prints a row for each way, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="images that each is timed on")
    parser.add_argument("--peer", type=Path, help="a Python with qonnx; default: made once")
    options = parser.parse_args()
    peer = peer_python(options.peer)
    print(f"{'network, scales':20}|{'simulator, ms':>14} {'float, ms':>10} {'qonnx, ms':>10} |"
          f"{'speed of float':>15} {'of qonnx':>9}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for power_of_two in (False, True):
            _compare(Path(folder), peer, options.rounds, power_of_two=power_of_two)


def _compare(folder: Path, peer: Path, rounds: int, *, power_of_two: bool) -> None:
    source, converted, image = (folder / name for name in ("net.onnx", "net.dla.onnx", "x.npy"))
    generator = [sys.executable, "-m", "benchmarks.networks", "resnet18", str(source)]
    measure([*generator, *["--power-of-two"] * power_of_two])
    convert = [sys.executable, "-m", "dlaconv", "from-qonnx", source, "-o", converted]
    measure([str(word) for word in (*convert, "--allow-violations", "--no-verify")])
    x = np.random.default_rng(0).normal(size=IMAGE).astype(np.float32)
    np.save(image, x)
    with subprocess.Popen(
        [peer, "-c", _PEER, source, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        ways = (simulator(converted, x), float_network(source, x), lambda: _ask(process))
        seconds = [[way() for way in ways] for _ in range(rounds + 2)][2:]
        process.communicate()
    ours, floats, theirs = zip(*seconds, strict=True)
    cells = " ".join(f"{1000 * statistics.median(times):{width}.1f}"
                     for times, width in ((ours, 14), (floats, 10), (theirs, 10)))  # fmt: skip
    ratios = [statistics.median(b / a for a, b in zip(ours, other, strict=True))
              for other in (floats, theirs)]  # fmt: skip
    scales = "2^n" if power_of_two else "float"
    print(f"{f'resnet18, {scales}':20}|{cells} |{ratios[0]:15.2f} {ratios[1]:9.1f}", flush=True)


def simulator(converted: Path, x: np.ndarray) -> Callable[[], float]:
    """Runs our simulator on an image and returns the seconds that it took."""
    from dlaconv.backends.access.simulator import Simulator
    from dlaconv.driver.facts import quantise_inputs
    from dlaconv.driver.reading import load_target, read_network
    from dlaconv.ir.rounding import Rounding

    network, facts = read_network(converted, load_target(None))
    made = Simulator(network)

    def run() -> float:
        start = time.perf_counter()
        made.run(quantise_inputs(network, {network.inputs[0].name: x}, facts, Rounding.HALF_EVEN))
        return time.perf_counter() - start

    return run


def float_network(source: Path, x: np.ndarray) -> Callable[[], float]:
    """Runs a QONNX file without its quantisers and returns the seconds that it took."""
    from dlaconv.ir.execution import Executor

    model = onnx.load(source)
    nodes = list(model.graph.node)
    behind = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Quant"}

    def unquantised(name: str) -> str:
        while name in behind:
            name = behind[name]
        return name

    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "Quant":
            node.input[:] = [unquantised(name) for name in node.input]
            model.graph.node.append(node)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    executor = Executor(ir.from_proto(model), optimise=True)
    feeds = {executor.inputs[0]: x}

    def run() -> float:
        start = time.perf_counter()
        executor.run(feeds)
        return time.perf_counter() - start

    return run


def _ask(process: subprocess.Popen[str]) -> float:
    """Has the peer run the image once more."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


if __name__ == "__main__":
    main()
