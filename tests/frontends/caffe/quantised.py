"""Quantised networks made by tests."""

import numpy as np

from dlaconv.ir import dialect
from tests.frontends.caffe.files import layer, load


def fixed(fl_in=None, fl_out=None, fl=None, *, bits=8, kind="DynamicFixed", **more):
    """The text of a precision_param in DynamicFixed mode."""
    fields = {
        "bw_layer_in": bits, "bw_layer_out": bits, "bw_params": None if fl is None else bits,
        "fl_layer_in": fl_in, "fl_layer_out": fl_out, "fl_params": fl, **more,
    }  # fmt: skip
    return _param(fields, kind)


def thresholds(th_in=None, th_out=None, th=(), *, bits=8, **more):
    """The text of a precision_param in Xilinx mode."""
    fields = {
        "bw_layer_in": bits, "bw_layer_out": bits, "bw_params": bits,
        "th_layer_in": th_in, "th_layer_out": th_out, **more,
    }  # fmt: skip
    return _param(fields, "Xilinx", "".join(f" th_params: {float(one)!r}" for one in th))


def _param(fields, kind, rest=""):
    words = " ".join(f"{name}: {value}" for name, value in fields.items() if value is not None)
    return f'precision_param {{ quant_type: "{kind}" {words}{rest} }}'


def convolution(name, bottom, outputs, precision="", more="kernel_size: 3 pad: 1", top=None):
    """The text of a Convolution."""
    return named(
        name,
        "Convolution",
        f"convolution_param {{ num_output: {outputs} {more} }} {precision}",
        [bottom],
        [top or name],
    )


def named(name, kind, parameters="", bottoms=("data",), tops=None):
    """The text of a layer."""
    text = layer(kind, parameters, bottoms, tops or [name])
    return text.replace("name: 'y'", f"name: '{name}'", 1)


def in_place(name, kind, blob, parameters=""):
    return named(name, kind, parameters, [blob], [blob])


def grids(imported):
    """The quantisations of maps, by the layer that asks for them, in the order of the graph."""
    found = {}
    for node in imported.model.graph:
        if dialect.is_quantize(node) and node.inputs[0].producer() is not None:
            found.setdefault(node.metadata_props["dlaconv.layer"], []).append(
                dialect.quantisation_of(node)
            )
    return found


def steps(imported):
    """The steps of all quantisations of maps and inputs, in the order of the graph."""
    return [
        dialect.quantisation_of(node).scalar_step
        for node in imported.model.graph
        if dialect.is_quantize(node) and not node.inputs[0].is_initializer()
    ]


def rules(imported, rule):
    return [item for item in imported.diagnostics if item.rule == rule]


def integers(found, step):
    """Values of a grid as integers."""
    q = np.rint(found / step)
    np.testing.assert_allclose(found, q * step, rtol=1e-6)
    return q.astype(np.int64)


__all__ = [
    "convolution", "fixed", "grids", "in_place", "integers", "load", "named", "rules", "steps",
    "thresholds",
]  # fmt: skip
