"""Plain ONNX of the collection: what is imported computes what the files compute."""

import numpy as np
import onnx
import pytest

from dlaconv.frontends.onnx import load_onnx, looks_like_onnx
from dlaconv.frontends.qonnx import load_qonnx, looks_like_qonnx
from dlaconv.ir import dialect
from dlaconv.ir.execution import Executor, run
from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage, broken_invariants
from dlaconv.ir.target import Target
from tests.frontends.builders import onnxruntime_outputs
from tests.models.collection import ONNX, QONNX, needs_models
from tests.models.test_qonnx_imported import stored

pytestmark = needs_models

TOLERANCE = 1e-6
"""Largest difference to the file run as it is, relative to the peak of the output."""
STORED_TOLERANCE = 1e-5
"""To the stored outputs, which were computed with onnxruntime's optimisations on."""
QUANTISED_TOLERANCE = 0.02
"""To those of quantised files: fused integer kernels round some values otherwise."""

RUN_TIME = "mobilenetv3_dynquant_wild.onnx"
"""A file that rounds its maps by what they hold, which is not imported."""
ROUNDED_AT_RUN_TIME = 0.3

OPEN_SIZES = {"mtcnn_pnet.onnx"}
"""Files whose height and width are open."""


def names(folder, pattern):
    found = sorted(path.name for path in folder.glob(pattern))
    return found or ["(no models)"]


def reference(name):
    """Name of the input, stacked samples, and the outputs of each sample."""
    with np.load((ONNX / name).with_suffix(".ref.npz")) as arrays:
        outputs = [arrays[f"out_{i}"] for i in range(len(arrays["output_names"]))]
        return str(arrays["input_name"]), arrays["input"], outputs


def largest_difference(model, name):
    """Of the outputs to the stored ones, relative to their peaks, for each sample alone."""
    value, samples, expected = reference(name)
    executor = Executor(model)
    worst = 0.0
    for index in range(len(samples)):
        results = executor.run({value: samples[index : index + 1]}).values()
        for got, wanted in zip(results, expected, strict=True):
            difference = np.abs(got.reshape(wanted[index].shape) - wanted[index]).max()
            worst = max(worst, float(difference / np.abs(wanted).max()))
    return worst


def is_quantised(name):
    return "_qdq_" in name or "_qop_" in name


@pytest.mark.parametrize("name", names(ONNX, "*.onnx"))
def test_an_imported_network_computes_what_the_file_computes(name):
    imported = load_onnx(ONNX / name)
    assert not imported.diagnostics.errors
    assert ("DLA122" in {found.rule for found in imported.diagnostics}) == (name == RUN_TIME)
    assert list(broken_invariants(imported.model, Stage.IMPORTED)) == []
    value, samples, _ = reference(name)
    x = {value: samples[:1]}
    file = onnx.load(ONNX / name)
    # the integer kernels round sums that float32 puts on the other side of a tie
    tolerance = QUANTISED_TOLERANCE if "_qop_" in name else TOLERANCE
    if name == RUN_TIME:
        tolerance = ROUNDED_AT_RUN_TIME
    for got, wanted in zip(
        run(imported.model, x).values(), onnxruntime_outputs(file, **x), strict=True
    ):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("name", names(ONNX, "*.onnx"))
def test_every_stage_computes_the_stored_outputs(name):
    imported = load_onnx(ONNX / name)
    tolerance = QUANTISED_TOLERANCE if is_quantised(name) else STORED_TOLERANCE
    if name == RUN_TIME:
        tolerance = ROUNDED_AT_RUN_TIME
    assert largest_difference(imported.model, name) <= tolerance
    value, samples, _ = reference(name)
    shapes = {value: samples[:1].shape} if name in OPEN_SIZES else {}
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(
        imported.model, Context(Target.load(), shapes=shapes)
    )
    assert [shape_of(item) for item in imported.model.graph.inputs] == [samples[:1].shape]
    assert largest_difference(imported.model, name) <= tolerance


@pytest.mark.parametrize("name", sorted(filter(is_quantised, names(ONNX, "*.onnx"))))
def test_a_quantised_network_says_the_same_classes(name):
    imported = load_onnx(ONNX / name)
    value, samples, expected = reference(name)
    executor = Executor(imported.model)
    for index in range(len(samples)):
        (result,) = executor.run({value: samples[index : index + 1]}).values()
        assert result.argmax() == expected[0][index].argmax()


@pytest.mark.parametrize("name", sorted(filter(is_quantised, names(ONNX, "*.onnx"))))
def test_every_weight_of_a_quantised_network_is_an_integer(name):
    model = load_onnx(ONNX / name).model
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(model, Context(Target.load()))
    layers = [node for node in model.graph if node.op_type in {"Conv", "Gemm"}]
    assert len(layers) > 10
    for node in layers:
        holder = node.inputs[1].producer()
        assert dialect.is_dequantize(holder)
        assert np.abs(dialect.array_of(holder.inputs[0]).astype(int)).max() <= 255


@pytest.mark.parametrize("name", names(ONNX, "*.onnx"))
def test_a_plain_file_is_recognised_as_one(name):
    assert looks_like_onnx(ONNX / name)
    assert not looks_like_qonnx(ONNX / name)


@pytest.mark.parametrize("name", names(QONNX, "*.qcdq.*.onnx"))
def test_brevitas_qcdq_computes_the_stored_output(name):
    """Brevitas rounds by half-even whatever was trained; trunc is written as a quantiser."""
    imported = load_onnx(QONNX / name)
    assert not imported.diagnostics.errors, str(imported.diagnostics)
    x, expected = stored(name)
    (value,) = imported.model.graph.inputs
    (got,) = run(imported.model, {value.name: x}).values()
    (file,) = onnxruntime_outputs(onnx.load(QONNX / name), **{value.name: x})
    assert np.abs(got - file).max() <= TOLERANCE * np.abs(file).max()
    error = np.abs(got - expected).max() / np.abs(expected).max()
    if name.split(".")[0] in KNOWN_WRONG:
        assert error > 1e-3
    else:
        assert error <= TOLERANCE


KNOWN_WRONG = {"around_floor", "truncavg_k4_floor", "trunc_k7_msb", "mobilenet_tiny_truncavg"}
"""QCDQ exports that differ from their network."""


OTHER_NETWORKS = KNOWN_WRONG | {"truncavg_k2_round", "wround_floor"}
"""QCDQ truncates with a quantiser, QONNX with an operator, and stores weights unrounded."""


@pytest.mark.parametrize("name", names(QONNX, "*.qcdq.ts.onnx"))
def test_both_formats_of_brevitas_give_one_network(name):
    """The quantisers of maps and the integers of weights are those of the QONNX sibling."""
    if name.split(".")[0] in OTHER_NETWORKS:
        pytest.skip("the two exports are different networks")
    sibling = name.replace(".qcdq.", ".qonnx.")
    one, other = load_onnx(QONNX / name).model, load_qonnx(QONNX / sibling).model
    assert quantised(one) == quantised(other)


def quantised(model):
    """Steps and ends of all maps, and the integers of all weights, in any order."""
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(model, Context(Target.load()))
    maps = []
    for node in model.graph:
        if dialect.is_quantize(node):
            item = dialect.quantisation_of(node)
            zero = int(item.zero_point.max())
            ends = (item.qmin - zero, item.qmax - zero)
            maps.append((*ends, *item.step.reshape(-1).tolist(), item.rounding.value))
    weights = []
    for node in model.graph:
        if node.op_type in {"Conv", "Gemm"} and dialect.is_dequantize(node.inputs[1].producer()):
            holder = node.inputs[1].producer()
            integers = dialect.array_of(holder.inputs[0]).astype(int)
            weights.append((integers.tolist(), dialect.step_of(holder).reshape(-1).tolist()))
    return sorted(maps), sorted(weights, key=str)
