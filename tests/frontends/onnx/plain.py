"""What the tests of plain ONNX share: an imported file must compute what onnxruntime computes."""

import numpy as np
from onnx import TensorProto, helper

from dlaconv.frontends.onnx import load_onnx
from dlaconv.ir.execution import run
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage, broken_invariants
from dlaconv.ir.target import Target
from tests.frontends.builders import network, onnxruntime_outputs, save

MICROSOFT = "com.microsoft"


def plain(nodes, constants=None, inputs=None, outputs=("y",), **more):
    """A model without other domains, whose output types are those that follow."""
    model = network(nodes, constants, inputs, outputs, **{"domains": (), **more})
    for value in model.graph.output:
        value.ClearField("type")
    return model


def contrib(op, inputs, outputs, **attributes):
    """A node of onnxruntime's own domain."""
    return helper.make_node(
        op, inputs, outputs, name=f"{op.lower()}_{outputs[0]}", domain=MICROSOFT, **attributes
    )


def integer_input(model, name, kind=TensorProto.UINT8):
    """Makes a graph input one of integers."""
    next(v for v in model.graph.input if v.name == name).type.tensor_type.elem_type = kind
    return model


def load(folder, model, **more):
    """What the frontend makes of a model."""
    return load_onnx(save(folder, model), **more)


def canonical(imported, **shapes):
    """The network at stage CANONICAL; the imported one is used up."""
    context = Context(Target.load(), shapes=shapes)
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(imported.model, context)
    return imported.model


def assert_same(folder, model, *, tolerance=0.0, stages=("imported", "canonical"), **feeds):
    """The imported and the canonical network compute what onnxruntime computes of the file.

    Args:
        folder: where the file goes.
        model: the file.
        tolerance: largest difference, relative to the peak of the output.
        stages: those to compare.
        **feeds: inputs, with a batch of one.

    Returns:
        The imported model before the passes.
    """
    expected = onnxruntime_outputs(model, **feeds)
    imported = load(folder, model)
    assert not imported.diagnostics.errors, str(imported.diagnostics)
    assert list(broken_invariants(imported.model, Stage.IMPORTED)) == []
    before = imported.model.clone()
    _compare(run(imported.model, feeds), expected, tolerance, "imported")
    if "canonical" in stages:
        after = canonical(imported, **{name: array.shape for name, array in feeds.items()})
        _compare(run(after, feeds), expected, max(tolerance, 1e-6), "canonical")
    return before


def _compare(got, expected, tolerance, stage):
    assert len(got) == len(expected)
    for one, other in zip(got.values(), expected, strict=True):
        assert one.shape == other.shape, stage
        error = np.abs(one.astype(np.float64) - other).max(initial=0)
        assert error <= tolerance * np.abs(other).max(initial=0), f"{stage}: off by {error}"


def operators(model):
    """The operators of a model, in order, but the copies at its border."""
    return [node.op_type for node in model.graph if node.op_type != "Identity"]
