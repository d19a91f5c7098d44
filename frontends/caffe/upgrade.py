"""Networks of the versions 0 and 1, in the terms of version 2."""

from __future__ import annotations

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.schema import Schema

_FROM_1 = {
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}
_FROM_0 = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}
_PADDING = "padding"
_DATA = {"source": "source", "batchsize": "batch_size", "meanfile": "mean_file", "scale": "scale"}
_DATA |= {"cropsize": "crop_size", "mirror": "mirror", "rand_skip": "rand_skip"}
_FILES = {"hdf5_data", "infogain_loss"}
"""Types whose source says nothing about what the network computes."""
_MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "conv": (
        "convolution_param",
        {
            "num_output": "num_output",
            "biasterm": "bias_term",
            "pad": "pad",
            "kernelsize": "kernel_size",
            "group": "group",
            "stride": "stride",
        },
    ),
    "innerproduct": (
        "inner_product_param",
        {"num_output": "num_output", "biasterm": "bias_term"},
    ),
    "pool": (
        "pooling_param",
        {"pool": "pool", "kernelsize": "kernel_size", "pad": "pad", "stride": "stride"},
    ),
    "dropout": ("dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "lrn": ("lrn_param", {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}),
    "concat": ("concat_param", {"concat_dim": "concat_dim"}),
    "data": ("data_param", _DATA),
    "images": (
        "image_data_param",
        _DATA | {"new_height": "new_height", "new_width": "new_width", "shuffle_images": "shuffle"},
    ),
    "window_data": ("window_data_param", {k: v for k, v in _DATA.items() if k != "rand_skip"}),
}
"""Where the fields of version 0 go, by type."""
_IGNORED = {
    "name", "type", "weight_filler", "bias_filler", "blobs", "blobs_lr", "weight_decay",
    "det_fg_threshold", "det_bg_threshold", "det_fg_fraction", "det_context_pad", "det_crop_mode",
    "hdf5_output_param",
}  # fmt: skip


def upgraded(net: Message, schema: Schema, file: str, found: Diagnostics) -> list[Layer]:
    """The layers of a network of version 0 or 1.

    Args:
        net: the network.
        schema: its schema.
        file: its path.
        found: takes what cannot be upgraded.
    """
    layers = []
    padding: dict[str, tuple[str, int]] = {}
    for message in net.messages("layers"):
        if message.has("layer"):
            layer = _from_0(message, schema, file, found, padding)
        else:
            layer = _from_1(message)
        if layer is not None:
            layers.append(layer)
    return layers


def _from_1(message: Message) -> Layer:
    upgraded_type = _FROM_1.get(message.text("type"), message.text("type"))
    return Layer(
        message.text("name"),
        upgraded_type,
        message.texts("bottom"),
        message.texts("top"),
        _as_layer_parameter(message),
        message.line,
        message.texts("param"),
    )


def _as_layer_parameter(message: Message) -> Message:
    """The same parameters in a message of version 2, in which every layer is read."""
    from dlaconv.frontends.caffe.schema import caffe_schema

    new = Message(caffe_schema(), "LayerParameter", message.line)
    for name in message.names():
        if name.endswith("_param") or name in {"include", "exclude"}:
            message.move(name, new)
    return new


def _from_0(
    message: Message,
    schema: Schema,
    file: str,
    found: Diagnostics,
    padding: dict[str, tuple[str, int]],
) -> Layer | None:
    """One layer of version 0; a padding layer goes into those that read it, and is no layer."""
    old = message.message("layer")
    kind, bottoms, tops = old.text("type"), message.texts("bottom"), message.texts("top")
    location = Location(file=file, line=message.line, layer=old.text("name"), op=kind)
    if kind == _PADDING:
        if len(bottoms) != 1 or len(tops) != 1 or bottoms[0] in padding:
            _refuse(found, location, "a padding layer reads one layer that does not pad")
        else:
            padding[tops[0]] = bottoms[0], old.integer("pad")
        return None
    new = _as_layer_parameter(message)
    name, moved = _MOVED.get(kind, ("", {}))
    parameters = Message(schema, new.kind.fields[name].type_name, old.line) if name else None
    for item in old.names():
        if item in moved and parameters is not None:
            old.move(item, parameters, moved[item])
        elif item not in _IGNORED and (kind not in _FILES or item not in _DATA):
            _refuse(found, location, f"{item} means nothing in a layer of type {kind!r}")
    padded = [bottom for bottom in bottoms if bottom in padding]
    if padded and (kind not in {"conv", "pool"} or parameters is None or len(bottoms) != 1):
        _refuse(found, location, f"only conv and pool read what a padding layer pads, not {kind!r}")
    elif padded:
        assert parameters is not None
        bottoms = [padding[padded[0]][0]]
        if old.has("pad") and old.integer("pad"):
            _refuse(found, location, "the layer pads what a padding layer has padded")
        elif not old.has("pad"):
            parameters.put("pad", padding[padded[0]][1])
    if parameters is not None:
        new.put(name, parameters)
    upgraded_type = _FROM_0.get(kind, kind)
    return Layer(old.text("name"), upgraded_type, bottoms, tops, new, message.line)


def _refuse(found: Diagnostics, location: Location, why: str) -> None:
    found.error(
        "DLA134",
        "caffe-network",
        f"a network of version 0: {why}",
        location=location,
        help="upgrade it with Caffe's upgrade_net_proto_text",
    )
