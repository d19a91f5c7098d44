"""What the tests of traps share: a small file in, numbers of every stage out, and NumPy to compare.

The expected numbers never come from the code under test: quantisers are those of
`tests.frontends.qonnx.reference`, sums are computed in float64 here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import dlaconv
from dlaconv.errors import UserError
from dlaconv.ir.execution import Executor, split_samples
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage, broken_invariants
from dlaconv.ir.target import Target
from dlaconv.options import Options
from tests.frontends.builders import save

IMAGE = {"x": [1, 3, 8, 8]}
COLLECT = "DLACONV_COLLECT_TRAPS"
"""Names a folder that every network with its samples and expected outputs is put into."""


def stages(folder, model, **samples):
    """The graph outputs, in order, of the imported and of the canonical network.

    Returns:
        ``{"imported": [...], "canonical": [...]}``, each output stacked over the samples.
    """
    imported = dlaconv.load(save(folder, model), "qonnx")
    assert not imported.diagnostics.errors, str(imported.diagnostics)
    assert list(broken_invariants(imported.model, Stage.IMPORTED)) == []
    before = outputs_of(imported.model, samples)
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(imported.model, Context(Target.load()))
    return {"imported": before, "canonical": outputs_of(imported.model, samples)}


def outputs_of(model, samples):
    """What a network makes of samples: its outputs in order, each stacked over the samples."""
    executor = Executor(model)
    results = [executor.run(feeds) for feeds in split_samples(samples)]
    return [np.concatenate([result[name] for result in results]) for name in executor.outputs]


def assert_computes(folder, model, *expected, relative=0.0, **samples):
    """Both stages compute the expected outputs, bit by bit or within a share of their peak."""
    if folder_of_all := os.environ.get(COLLECT):
        _collect(Path(folder_of_all), model, expected, samples)
    for stage, outputs in stages(folder, model, **samples).items():
        assert len(outputs) == len(expected)
        for got, wanted in zip(outputs, expected, strict=True):
            assert got.shape == wanted.shape, stage
            error = np.abs(got.astype(np.float64) - wanted).max(initial=0)
            assert error <= relative * np.abs(wanted).max(initial=0), f"{stage}: off by {error}"


def _collect(folder, model, expected, samples):
    """Stores a network under the name of its test."""
    test = re.sub(r"[^A-Za-z0-9_]+", "-", os.environ["PYTEST_CURRENT_TEST"].split("::")[-1])
    name = f"{test.removesuffix('-call-')}.{len(list(folder.glob('*.onnx')))}"
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)  # qonnx wants every shape declared
    imported = dlaconv.load(save(folder, model, f"{name}.onnx"), "qonnx").model
    inner = [value for node in imported.graph for value in node.outputs]
    for value in (value for value in inner if not value.is_graph_output()):
        info = onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, value.shape)
        shaped.graph.value_info.append(info)
    save(folder, shaped, f"{name}.onnx")
    np.savez(folder / f"{name}.inputs.npz", **samples)
    names = [value.name for value in model.graph.output]
    np.savez(folder / f"{name}.expected.npz", **dict(zip(names, expected, strict=True)))


@dataclass
class Hardware:
    """A conversion, and what the simulated hardware makes of the samples."""

    conversion: object
    outputs: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]

    @property
    def report(self):
        return self.conversion.report

    @property
    def warned(self):
        """The ids of warnings and notes."""
        found = self.report["diagnostics"]
        return [item["rule"] for item in found if item["severity"] != "error"]

    def classes(self, kind="map"):
        return {r["name"]: r["class"] for r in self.report["tensors"] if r["kind"] == kind}

    def row(self, name):
        return next(row for row in self.report["tensors"] if row["name"] == name)

    def rewrites(self, name):
        return [item for item in self.report["rewrites"] if item["name"] == name]


def hardware(folder, model, *, calibrate=False, **samples):
    """Converts a network and runs the result on the samples; limits of size are not the matter.

    Args:
        folder: where the files go.
        model: the network.
        calibrate: gives the samples as calibration data too.
        **samples: stacked inputs by graph input.
    """
    source, target, inputs = save(folder, model), folder / "net.dla.onnx", folder / "inputs.npz"
    np.savez(inputs, **samples)
    options = Options(allow_violations=True, calibrate=inputs if calibrate else None)
    conversion = dlaconv.convert(source, target, frontend="qonnx", options=options)
    assert conversion.report["verification"]["passed"]
    outputs = dlaconv.run(target, samples, as_float=True)
    maps = dlaconv.run(target, samples, as_float=True, fetch_all=True)
    return Hardware(conversion, outputs, maps)


def refusals(folder, model, **samples):
    """The errors that stop a conversion; nothing may have been written."""
    source, target = save(folder, model), folder / "net.dla.onnx"
    options = Options(allow_violations=True)
    if samples:
        np.savez(folder / "inputs.npz", **samples)
        options = Options(allow_violations=True, calibrate=folder / "inputs.npz")
    try:
        dlaconv.convert(source, target, frontend="qonnx", options=options)
    except UserError as error:
        assert not target.exists()
        assert not target.with_suffix(".json").exists()
        return list(error.diagnostics.errors)
    raise AssertionError("the network was converted")


def grid(*shape, step=2.0**-6, bits=8, signed=True, seed=0):
    """Random values on a grid, as a quantiser leaves them."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    integers = np.random.default_rng(seed).integers(low, high, shape)
    return (integers * np.float32(step)).astype(np.float32)


def conv2d(x, weights, bias=None, *, stride=1, pads=(0, 0, 0, 0), group=1):
    """ONNX's Conv in float64; pads are top, left, bottom, right."""
    top, left, bottom, right = pads
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weights.shape[2:], (2, 3))
    windows = windows[:, :, ::stride, ::stride]
    parts = [
        np.einsum("nchwij,ocij->nohw", maps, kernel)
        for maps, kernel in zip(
            np.split(windows, group, axis=1), np.split(weights, group), strict=True
        )
    ]
    result = np.concatenate(parts, axis=1)
    return result if bias is None else result + np.reshape(bias, (1, -1, 1, 1))
