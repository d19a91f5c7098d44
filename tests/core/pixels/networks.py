"""Small classifiers, pictures for them, and their conversion to networks that take pixels."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import dlaconv
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION = Preprocessing(preset="torchvision", bgr=True)


def classifier(path, *, pads=0, head=(), last=(), shape=(1, 3, 10, 10)):
    """A small float network of 3 x 10 x 10, with further nodes before and behind."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(16, 3, 3, 3)) / 5,
        "b": rng.normal(size=16),
        "v": rng.normal(size=(32, 16, 3, 3)) / 12,
        "f": rng.normal(size=(32, 10)),
    }
    nodes = [
        *head,
        helper.make_node("Conv", ["h" if head else "x", "w", "b"], ["c"], pads=[pads] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["g"]),
        helper.make_node("Flatten", ["g"], ["k"]),
        helper.make_node("MatMul", ["k", "f"], ["y"]),
        *last,
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("z" if last else "y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype("f"), n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def bytes_of(count, seed=0):
    """Smooth pictures, so that maps have something to show."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 3, 4, 4), np.uint8)
    found = [[np.asarray(Image.fromarray(c).resize((10, 10))) for c in image] for image in small]
    return np.array(found, np.uint8)


def prepared(pixels, *, bgr=True):
    """Torchvision's values, computed apart from ours."""
    given = pixels[:, ::-1] if bgr else pixels
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    return ((given / 255 - mean) / std).astype(np.float32)


def source_outputs(path, values):
    session = onnxruntime.InferenceSession(str(path))
    return np.concatenate([session.run(None, {"x": v[None]})[0] for v in values])


def is_padded(source):
    first = next(item for item in onnx.load(source).graph.node if item.op_type == "Conv")
    return any(list(item.ints) == [1] * 4 for item in first.attribute)


def convert(source, data, name="net.dla.onnx", **options):
    target = source.with_name(name)
    options = {"images": TORCHVISION, "fold_preprocess": True, "calibrate": data} | options
    if options["fold_preprocess"]:
        options = {"border_channel": is_padded(source)} | options
    return dlaconv.convert(source, target, options=Options(**options)), target


def rules(error):
    return [item.rule for item in error.value.diagnostics if item.severity == "error"]


def decibels(wanted, got):
    return 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum())
