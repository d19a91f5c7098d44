"""Builds small models and runs one pass on them, checking what every pass must keep."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.execution import run
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.stages import broken_invariants
from dlaconv.ir.target import Target


class Net:
    """A model built node by node; every method returns the name of its result."""

    def __init__(self, **inputs):
        self.inputs = [ir.val(n, dtype=ir.DataType.FLOAT, shape=s) for n, s in inputs.items()]
        self.values = {value.name: value for value in self.inputs}
        self.nodes = []
        self.constants = []

    def const(self, array, name=None, dtype=np.float32):
        array = np.asarray(array)
        array = array.astype(dtype) if array.dtype.kind == "f" or dtype != np.float32 else array
        value = dialect.constant(name or f"c{len(self.constants)}", array)
        self.constants.append(value)
        self.values[value.name] = value
        return value.name

    def op(self, op_type, *inputs, out=None, outputs=1, **attributes):
        values = [self.value(x) for x in inputs]
        node = ir.node(op_type, values, attributes, num_outputs=outputs, name=f"n{len(self.nodes)}")
        return self._add(node, out)

    def quantize(self, x, step=0.25, bits=8, out=None, **kwargs):
        quantisation = Quantisation.of(step, bits, **kwargs)
        name = f"n{len(self.nodes)}"
        node = dialect.quantize(self.value(x), quantisation, name=name)
        return self._add(node, out)

    def bipolar(self, x, step, out=None):
        return self._add(dialect.bipolar(self.value(x), step, name=f"n{len(self.nodes)}"), out)

    def dequantize(self, x, step, out=None):
        name = f"n{len(self.nodes)}"
        step = np.asarray(step, np.float32)
        return self._add(dialect.dequantize(self.value(x), step, name=name, output="_"), out)

    def value(self, x):
        if x is None or isinstance(x, str):
            return self.values[x] if x else None
        return self.values[self.const(x)]

    def _add(self, node, out):
        names = [out] if isinstance(out, str) else out or [f"v{len(self.nodes)}"]
        names += [f"{names[0]}_{i}" for i in range(1, len(node.outputs))]
        for value, name in zip(node.outputs, names, strict=False):
            value.name = name
            self.values[name] = value
        self.nodes.append(node)
        for value in node.inputs:  # the parameters of quantise nodes
            if value is not None and value.const_value is not None and value.producer() is None:
                self.values.setdefault(value.name, value)
                if value not in self.constants:
                    self.constants.append(value)
        return names[0]

    def model(self, *outputs):
        """The finished model, with the shapes and types of all values."""
        results = [self.values[name] for name in outputs]
        for value in results:
            value.dtype = value.dtype or ir.DataType.FLOAT
        graph = ir.Graph(
            self.inputs,
            results,
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports={"": dialect.OPSET},
            name="net",
        )
        model = ir.Model(graph, ir_version=dialect.IR_VERSION)
        dialect.install(model)
        proto = onnx.shape_inference.infer_shapes(
            ir.to_proto(model), check_type=True, strict_mode=True, data_prop=True
        )
        onnx.checker.check_model(proto)
        model = ir.from_proto(proto)
        provenance.mark_all(model, "net.onnx")
        return model


def context(**changes):
    return Context(Target.load(), **changes)


def random_feeds(model, seed=0):
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.normal(size=tuple(value.shape)).astype(np.float32)
        for value in model.graph.inputs
    }


def node_values(model):
    """The names of all values that nodes make."""
    return [value.name for node in model.graph for value in node.outputs if value.name]


def signature(values):
    return [(value.name, tuple(value.shape), value.dtype) for value in values]


def run_pass(pass_, model, context_=None, feeds=None, *, stage=None, seed=0, tolerance=None):
    """Runs a pass (or several) on a clone of ``model`` and returns the clone.

    What a pass says it has not changed must be as it was. The interface must stay, the results
    must be equal (bit for bit, or within the passes' tolerance unless another one is given), and
    so must every value whose name is in both graphs.
    """
    passes = pass_ if isinstance(pass_, (list, tuple)) else [pass_]
    after = model.clone()
    context_ = context_ or context()
    feeds = feeds or random_feeds(model, seed)
    for step in passes:
        before = ir.to_proto(after.graph).SerializeToString()
        if not step(after, context_):
            assert ir.to_proto(after.graph).SerializeToString() == before, step.name
        dialect.install(after)
        onnx.checker.check_model(ir.to_proto(after))
    assert signature(after.graph.inputs) == signature(model.graph.inputs)
    assert signature(after.graph.outputs) == signature(model.graph.outputs)
    names = node_values(after)
    assert len(set(names)) == len(names)
    if stage is not None:
        assert list(broken_invariants(after, stage)) == []
    tolerances = [step.tolerance for step in passes]
    if tolerance is None and None not in tolerances:
        tolerance = sum(tolerances)
    if tolerance is not None:
        assert_same_values(model, after, feeds, tolerance, context_.layouts)
    return after


def assert_same_values(before, after, feeds, tolerance=0.0, layouts=None):
    """Compares by name; of maps with further channels, those that the layouts name."""
    kept = set(node_values(before)) & set(node_values(after))
    fetch = list(dict.fromkeys([*(v.name for v in before.graph.outputs), *sorted(kept)]))
    expected, got = run(before, feeds, fetch), run(after, feeds, fetch)
    for name, layout in (layouts or {}).items():
        if name in got:
            assert got[name].shape[1] == layout.count, name
            got[name] = layout.select(got[name])
    for name in fetch:
        assert got[name].shape == expected[name].shape, name
        equal = np.array_equal(
            got[name], expected[name], equal_nan=expected[name].dtype.kind == "f"
        )
        if tolerance == 0:
            assert equal, name
        elif not equal:
            scale = np.abs(expected[name]).max(initial=0) or 1.0
            error = np.abs(got[name] - expected[name]).max(initial=0) / scale
            assert error <= tolerance, f"{name}: {error}"
    for value in after.graph.outputs:  # declared shapes must be the real ones
        assert tuple(value.shape) == got[value.name].shape or value.name in (layouts or {})
    check_shapes(after, feeds)


def check_shapes(model, feeds):
    """The shapes that passes note on values must be those that come out."""
    values = [v for node in model.graph for v in node.outputs if v.name and v.shape is not None]
    got = run(model, feeds, [value.name for value in values])
    for value in values:
        assert tuple(value.shape) == got[value.name].shape, value.name


def ops(model):
    return [node.op_type for node in model.graph]


def node_of(model, op_type):
    found = [node for node in model.graph if node.op_type == op_type]
    assert len(found) == 1, f"{len(found)} {op_type} nodes"
    return found[0]
