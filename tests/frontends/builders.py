"""Small ONNX files, built in the form that each test needs."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dlaconv.diagnostics import Diagnostics
from dlaconv.frontends.qonnx import load_qonnx
from dlaconv.ir.execution import run

QONNX = "qonnx.custom_op.general"


def network(
    nodes,
    constants=None,
    inputs=None,
    outputs=("y",),
    *,
    opset=18,
    domains=((QONNX, 2),),
    ir_version=8,
    constants_as_inputs=False,
    value_info=(),
    functions=(),
):
    """A model.

    Args:
        nodes: NodeProtos, or tuples (op type, inputs, outputs, attributes).
        constants: arrays by name; they become initializers.
        inputs: shapes by name, ``x`` of [1, 3, 4, 4] unless given.
        outputs: names.
        opset: version of ai.onnx, None to declare none.
        domains: further (domain, version) pairs, in front of ai.onnx as Brevitas writes them.
        ir_version: version of the file format.
        constants_as_inputs: repeats the initializers as graph inputs.
        value_info: further declared values (name, shape).
        functions: model-local functions.
    """
    made = [node if isinstance(node, onnx.NodeProto) else _node(*node) for node in nodes]
    tensors = [tensor(name, array) for name, array in (constants or {}).items()]
    given = [_info(name, shape) for name, shape in (inputs or {"x": [1, 3, 4, 4]}).items()]
    if constants_as_inputs:
        given += [
            helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
            for item in tensors
        ]
    graph = helper.make_graph(
        made,
        "net",
        given,
        [_info(name, None) for name in outputs],
        tensors,
        value_info=[_info(name, shape) for name, shape in value_info],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in domains]
    imports += [helper.make_opsetid("", opset)] if opset is not None else []
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    model.functions.extend(functions)
    return model


def tensor(name, array):
    array = np.asarray(array)
    return numpy_helper.from_array(
        array.astype(np.float32) if array.dtype == np.float64 else array, name
    )


def quant(x, y, scale="s", zero="z", bits="b", *, op="Quant", domain=QONNX, **attributes):
    """A Quant node; signed and not narrow unless told otherwise; None leaves an attribute out."""
    attributes = {"signed": 1, "narrow": 0, **attributes}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    return helper.make_node(
        op, [x, scale, zero, bits], [y], name=f"quant_{y}", domain=domain, **attributes
    )


def parameters(scale=0.25, zero=0.0, bits=8):
    """The constants that `quant` reads."""
    return {
        "s": np.asarray(scale, np.float32),
        "z": np.asarray(zero, np.float32),
        "b": np.asarray(bits, np.float32),
    }


def save(folder, model, name="net.onnx"):
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def load(folder, model):
    """What the frontend makes of a model."""
    return load_qonnx(save(folder, model))


def execute(imported, **feeds):
    """The outputs of an imported network, in order."""
    assert not imported.diagnostics.errors, str(imported.diagnostics)
    return list(run(imported.model, feeds).values())


def onnxruntime_outputs(model, **feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, feeds)


def rules(diagnostics):
    """The ids of the errors."""
    found = diagnostics if isinstance(diagnostics, Diagnostics) else diagnostics.diagnostics
    return [item.rule for item in found.errors]


def random(*shape, seed=0, spread=2.0):
    return (np.random.default_rng(seed).normal(size=shape) * spread).astype(np.float32)


def _node(op, inputs, outputs, attributes=None, domain=""):
    name = f"{op.lower()}_{outputs[0]}"
    return helper.make_node(op, inputs, outputs, name=name, domain=domain, **(attributes or {}))


def _info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
