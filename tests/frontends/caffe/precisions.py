"""The precisions of small networks, read without weights."""

from fractions import Fraction

from dlaconv.diagnostics import Diagnostics
from dlaconv.frontends.caffe.network import layers_of
from dlaconv.frontends.caffe.precision import FilterThresholds, Mode
from dlaconv.frontends.caffe.precision.reading import read_precision
from dlaconv.frontends.caffe.precision.sources import PrecisionSources
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import parse_text
from dlaconv.ir.formats import QFormat, Threshold

DYNAMIC, XILINX, RISTRETTO = Mode.DYNAMIC_FIXED, Mode.XILINX, Mode.RISTRETTO
FIXED = "bw_layer_in: 8 bw_layer_out: 8 fl_layer_in: 4 fl_layer_out: 3"
WEIGHTS = "bw_params: 8 fl_params: 7"
TH = "quant_type: 'Xilinx' bw_layer_in: 8 bw_layer_out: 8 th_layer_in: 2 th_layer_out: 4"
TH_WEIGHTS = "bw_params: 8 th_params: 0.5 th_params: 0.25"
FILE = "net.prototxt"


def layer(name, kind, bottom, parameters="", message=None, field="precision_param", top=None):
    """A layer that reads one blob, or several, and has a precision if there is a message."""
    bottoms = bottom if isinstance(bottom, list) else [bottom]
    read = " ".join(f"bottom: '{item}'" for item in bottoms)
    said = "" if message is None else f"{field} {{ {message} }}"
    write = "" if top == "" else f"top: '{top or name}'"
    return f"layer {{ name: '{name}' type: '{kind}' {read} {write}\n{parameters}\n{said} }}\n"


def conv(name="c", message=None, *, bottom="data", kind="Convolution", outputs=2, **more):
    parameters = f"convolution_param {{ num_output: {outputs} kernel_size: 1 }}"
    return layer(name, kind, bottom, parameters, message, **more)


def product(name="f", message=None, *, bottom="data", kind="InnerProduct", **more):
    return layer(name, kind, bottom, "inner_product_param { num_output: 2 }", message, **more)


def pool(name="p", message=None, *, method="AVE", bottom="data", **more):
    parameters = f"pooling_param {{ pool: {method} kernel_size: 2 }}"
    return layer(name, "Pooling", bottom, parameters, message, **more)


def read(text, thresholds=None, uniform=None):
    """The precisions of a network by layer, and what was found."""
    net, found = parse_text(text, caffe_schema(), "NetParameter", FILE)
    layers = layers_of(net, caffe_schema(), FILE, found)
    read_precision(layers, PrecisionSources(thresholds, uniform), FILE, found)
    return {item.name: item.precision for item in layers}, found


def of(text, name):
    """The precision of one layer, of a network in which nothing is wrong."""
    precisions, found = read(text)
    assert not found.errors, found
    return precisions[name]


def threshold(value, bits=8):
    return Threshold(bits, Fraction(value))


def filters(*values, bits=8):
    return FilterThresholds(bits, tuple(map(Fraction, values)))


def told(found: Diagnostics):
    """Severity, id and layer of each finding."""
    return [(str(item.severity), item.rule, item.location.layer) for item in found]


__all__ = [
    "DYNAMIC", "FILE", "FIXED", "RISTRETTO", "TH", "TH_WEIGHTS", "WEIGHTS", "XILINX", "QFormat",
    "conv", "filters", "layer", "of", "pool", "product", "read", "threshold", "told",
]  # fmt: skip
