"""Networks that read pictures, and what folding preprocessing into them must keep."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import dlaconv
from dlaconv.driver.pixels import folded_pixels
from dlaconv.driver.reading import load_target
from dlaconv.ir.execution import run
from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.passes.fold_preprocess import fold_preprocess
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.pixel_graphs import let_take_pixels
from dlaconv.ir.stages import Stage
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing


@dataclass
class Net:
    """A source: nodes from ``x`` to ``y``, with constants by name."""

    nodes: list
    constants: dict
    shape: tuple = (1, 3, 7, 6)
    dtype: int = TensorProto.FLOAT

    def model(self):
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", self.dtype, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, folder):
        path = folder / "net.onnx"
        onnx.save(self.model(), path)
        return path

    def run(self, values):
        session = onnxruntime.InferenceSession(self.model().SerializeToString())
        return session.run(None, {"x": values})[0]


def node(op_type, *inputs, out="y", **attributes):
    return helper.make_node(op_type, list(inputs), [out], **attributes)


def convolution(
    rng, *, pads=(0,) * 4, stride=1, group=1, channels=3, size=(7, 6), before=(), constants=()
):
    """A convolution, or one behind other nodes that end in ``h``."""
    shape = (6, channels // group, 3, 3)
    weights = {"w": rng.normal(size=shape).astype("f"), "b": rng.normal(size=6).astype("f")}
    nodes = [*before, node("Conv", "h" if before else "x", "w", "b", pads=pads,
                           strides=[stride] * 2, group=group)]  # fmt: skip
    return Net(nodes, {**dict(constants), **weights}, (1, channels, *size))


def pictures(rng, shape, count=3):
    """Pixels, with all of them somewhere, and the two ends along the borders."""
    found = rng.integers(0, 256, (count, *shape[1:])).astype(np.uint8)
    found[0, ..., 0], found[0, ..., -1] = 0, 255
    return found


def preprocessed(pixels, how, axis):
    """What the host does without folding."""
    how, wide = how.with_preset(), pixels.astype(np.float64)
    if how.bgr:
        wide = np.flip(wide, axis)
    shape = [1] * pixels.ndim
    shape[axis] = -1
    mean, std = (np.array(v).reshape(shape) for v in (how.mean or (0,), how.std or (1,)))
    scale = 1 if how.scale is None else how.scale
    return ((wide * scale - mean) / std).astype(np.float32)


def folded(net, folder, how=None, *, unsigned=False, border=False):
    """The network at stage CANONICAL that takes pixels, what it takes, and the context."""
    imported = dlaconv.load(net.save(folder))
    assert not imported.diagnostics.errors
    options = Options(
        fold_preprocess=True,
        images=how or Preprocessing(),
        unsigned_maps=unsigned,
        border_channel=border,
    )
    pixels = folded_pixels(options, imported.model)
    context = Context(load_target(None))
    Pipeline([(Stage.CANONICAL, [*CANONICAL, fold_preprocess(pixels)])]).run(
        imported.model, context
    )
    return imported.model, pixels["x"], context


def require_same(net, folder, how=None, axis=1, *, unsigned=False, border=False, seed=0):
    """Compares pixel by pixel, and the reference for proofs too."""
    model, taken, _ = folded(net, folder, how, unsigned=unsigned, border=border)
    reference = dlaconv.load(folder / "net.onnx").model
    let_take_pixels(reference, {"x": taken})
    for picture in pictures(np.random.default_rng(seed), net.shape):
        pixels = picture[None]
        given = pixels if net.dtype == TensorProto.UINT8 else None
        given = preprocessed(pixels, how or Preprocessing(), axis) if given is None else given
        wanted = net.run(given)
        fed = taken.fed("x", pixels)
        assert fed.min() >= taken.low
        assert fed.max() <= taken.high
        limit = 3e-5 * np.abs(wanted).max()
        assert np.abs(run(model, {"x": fed.astype("f")})["y"] - wanted).max() <= limit
        found = run(reference, {"x": pixels.astype("f")})["y"]
        assert np.abs(found - wanted).max() <= limit
    return model


def reasons(error):
    assert {item.rule for item in error.value.diagnostics} == {"DLA337"}
    return " ".join(item.message for item in error.value.diagnostics)


def quantised(rng, *, step, zero, std=None, kind=np.uint8):
    """A QDQ network whose input and weights are quantised."""
    integers = rng.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)
    constants = {
        "s": np.float32(step), "z": kind(zero), "wi": integers,
        "ws": rng.uniform(0.01, 0.02, 6).astype("f"), "wz": np.zeros(6, np.int8),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x", "s", "z", out="q"),
        node("DequantizeLinear", "q", "s", "z", out="h"),
        node("DequantizeLinear", "wi", "ws", "wz", out="w", axis=0),
        node("Conv", "h", "w", kernel_shape=[3, 3], pads=[0] * 4),
    ]
    return Net(nodes, constants), integers
