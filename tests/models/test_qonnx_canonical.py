"""CANONICAL computes what IMPORTED computes, on every QONNX file of the collection."""

import numpy as np
import pytest

from dlaconv.frontends.qonnx import load_qonnx
from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.models.collection import QONNX, needs_models

pytestmark = needs_models

# what absorb_scaling leaves is meant for integers: in float32 a floor may miss an edge
PASSES = [step for step in CANONICAL if step.name != "absorb_scaling"]
UNSUPPORTED = {"finn_cybsec_PE_SIMD", "qonnx_floatquant_act_weight_fp8"}
FLIPS = {"qonnx_espcn_nn_resize_quant": 2e-4}
"""Positions that may differ at quantised maps: float scales, and batch norms folded into them."""


def files():
    paths = [*sorted(QONNX.glob("*.qonnx.*.onnx")), *sorted((QONNX / "real").glob("*.onnx"))]
    return [path for path in paths if path.stem not in UNSUPPORTED]


def samples(model, count=4):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {
            value.name: rng.normal(size=tuple(value.shape)).astype(np.float32)
            for value in model.graph.inputs
        }


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_canonical_form_computes_the_same(path):
    model = load_qonnx(path).model
    before = model.clone()
    Pipeline([(Stage.CANONICAL, PASSES)]).run(model, Context(Target.load()))
    for old, new in zip(before.graph.inputs, model.graph.inputs, strict=True):
        old.shape = new.shape  # an open batch is 1 now
    names = {value.name for node in model.graph for value in node.outputs}
    maps = [
        node.outputs[0].name
        for node in before.graph
        if dialect.is_quantize(node) and node.outputs[0].name in names
    ]
    outputs = [value.name for value in before.graph.outputs]
    fetch = list(dict.fromkeys([*outputs, *maps]))
    executors = Executor(before, fetch), Executor(model, fetch)
    differing = total = 0
    allowed = FLIPS.get(path.stem, 0.0)
    for feeds in samples(model):
        expected, got = (executor.run(feeds) for executor in executors)
        for name in maps:
            differing += int((expected[name] != got[name]).sum())
            total += expected[name].size
        for name in outputs if not allowed else ():
            scale = np.abs(expected[name]).max() or 1.0
            assert np.abs(expected[name] - got[name]).max() <= 1e-5 * scale
    assert differing <= allowed * total
