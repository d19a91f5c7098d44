"""Caffe files made by tests: text as it is, blobs through the schema's numbers."""

import struct

import numpy as np

from dlaconv.frontends.caffe import load_caffe
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.ir.execution import Executor

INPUT = "layer {{ name: 'data' type: 'Input' top: 'data' input_param {{ shape {{ {} }} }} }}\n"


def varint(value):
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def field(message, name, payload):
    """A length-delimited field."""
    number = caffe_schema().number(message, name)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number(message, name, value):
    return varint(caffe_schema().number(message, name) << 3) + varint(value)


def dims(shape):
    return field("BlobShape", "dim", b"".join(varint(size) for size in shape))


def blob(array, *, legacy=False, style="packed", shape=None):
    """A BlobProto.

    ``style`` is packed, unpacked, double, unpacked double, half, diff or packed and unpacked.
    """
    array = np.asarray(array, np.float32)
    shape = array.shape if shape is None else shape
    if legacy:
        sizes = (1,) * (4 - len(shape)) + tuple(shape)
        names = ("num", "channels", "height", "width")
        head = b"".join(
            number("BlobProto", name, size) for name, size in zip(names, sizes, strict=True)
        )
    else:
        head = field("BlobProto", "shape", dims(shape)) if shape else b""
    flat = array.reshape(-1)
    if style == "half":
        raw = field("BlobProto", "raw_data", flat.astype("<f2").tobytes())
        return head + number("BlobProto", "raw_data_type", 2) + raw
    if style in {"double", "unpacked double"}:
        name, kind, wire, letter = "double_data", "<f8", 1, "<d"
    else:
        name, kind, wire, letter = "diff" if style == "diff" else "data", "<f4", 5, "<f"
    tag = varint(caffe_schema().number("BlobProto", name) << 3 | wire)
    if style in {"packed", "double", "diff"}:
        return head + field("BlobProto", name, flat.astype(kind).tobytes())
    loose = [tag + struct.pack(letter, value) for value in flat]
    if style.startswith("unpacked"):
        return head + b"".join(loose)
    packed = field("BlobProto", name, flat[: flat.size // 2].astype(kind).tobytes())
    return head + packed + b"".join(loose[flat.size // 2 :])


def caffemodel(layers, version=2, **how):
    """A caffemodel: arrays by name of the layer; of version 0, 1 or 2."""
    found = b""
    for name, arrays in layers.items():
        blobs = [item if isinstance(item, bytes) else blob(item, **how) for item in arrays]
        kind = ("V0LayerParameter", "V1LayerParameter", "LayerParameter")[version]
        body = field(kind, "name", name.encode())
        body += b"".join(field(kind, "blobs", item) for item in blobs)
        if version == 0:
            body = field("V1LayerParameter", "layer", body)
        found += field("NetParameter", "layer" if version == 2 else "layers", body)
    return found or field("NetParameter", "layer", field("LayerParameter", "name", b"data"))


def load(folder, text, layers=None, *, binary=None, shape=None, **options):
    """Writes both files and reads them; with ``shape`` an Input layer 'data' comes first."""
    if shape is not None:
        text = INPUT.format(" ".join(f"dim: {size}" for size in shape)) + text
    prototxt, model = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(text, "utf-8")
    model.write_bytes(caffemodel(layers or {}) if binary is None else binary)
    return load_caffe(prototxt, model, **options)


def run(imported, **inputs):
    """The outputs of an imported network, by name."""
    assert not imported.diagnostics.errors, imported.diagnostics
    arrays = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
    return Executor(imported.model).run(arrays)


def output(imported, **inputs):
    """The only output of a network."""
    [found] = run(imported, **inputs).values()
    return found


def error(imported):
    """The only error of an import."""
    [found] = imported.diagnostics.errors
    return found


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layer(kind, parameters="", bottoms=("data",), tops=("y",)):
    """The text of a layer 'y'."""
    read = " ".join(f"bottom: '{name}'" for name in bottoms)
    write = " ".join(f"top: '{name}'" for name in tops)
    return f"layer {{ name: 'y' type: '{kind}' {read} {write} {parameters} }}\n"


def computed(folder, x, kind, parameters="", blobs=()):
    """What a network of one layer makes of an input."""
    text = layer(kind, parameters)
    return output(load(folder, text, {"y": blobs} if blobs else None, shape=x.shape), data=x)


def close(found, wanted):
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
