"""The layers of a prototxt that run at inference, whatever version of Caffe wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlaconv.diagnostics import Diagnostics, Location, listed
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.precision import Precision
from dlaconv.frontends.caffe.schema import Schema

RISTRETTO = {
    "BatchNormRistretto": "BatchNorm",
    "ConvolutionRistretto": "Convolution",
    "DeconvolutionRistretto": "Deconvolution",
    "EltwiseRistretto": "Eltwise",
    "FcRistretto": "InnerProduct",
    "LRNRistretto": "LRN",
    "NormalizeRistretto": "Normalize",
    "ScaleRistretto": "Scale",
}
"""Types of Ristretto and what they compute; what they round to is their precision."""


@dataclass
class Layer:
    """One layer.

    Attributes:
        name: its name; the binary's weights go by it.
        type: its type, spelled as in version 2; one of Ristretto by what it computes.
        bottoms: names of the blobs that it reads.
        tops: names of the blobs that it writes.
        message: its parameters.
        line: where it begins.
        shared: name by which a blob is shared with other layers, empty for its own; by index.
        precision: the formats of its numbers; None for floating point, or what its bottoms have.
    """

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    message: Message
    line: int
    shared: list[str] = field(default_factory=list)
    precision: Precision | None = None

    def param(self, name: str) -> Message:
        """The parameters of a kind, such as ``pooling_param``; the defaults if there are none."""
        return self.message.message(name)

    def location(self, file: str) -> Location:
        """Where the layer is, for findings."""
        return Location(file=file, line=self.line, layer=self.name, op=self.type)


def names_of(layers: Sequence[Layer]) -> str:
    """Layers in a message: the names and types of the first few, and how many more there are."""
    return listed([f"{layer.name!r} ({layer.type})" for layer in layers])


def layers_of(net: Message, schema: Schema, file: str, found: Diagnostics) -> list[Layer]:
    """The layers of a network at inference, in the order of the file; inputs come first.

    Args:
        net: the file's NetParameter.
        schema: its schema.
        file: its path.
        found: takes findings.
    """
    from dlaconv.frontends.caffe.upgrade import upgraded

    if net.has("layer") and net.has("layers"):
        found.error(
            "DLA134",
            "caffe-network",
            "the file has layers of two versions ('layers' and 'layer')",
            location=Location(file=file, line=net.line_of("layers")),
            help="upgrade it with Caffe's upgrade_net_proto_text",
        )
        return []
    if net.has("layers"):
        layers = upgraded(net, schema, file, found)
    else:
        layers = [_layer(message) for message in net.messages("layer")]
    state = net.message("state")
    kept = [layer for layer in layers if _runs(layer, state, file, found)]
    return [*_legacy_inputs(net, schema, file, found), *kept]


def _layer(message: Message) -> Layer:
    kind = message.text("type")
    return Layer(
        message.text("name"),
        RISTRETTO.get(kind, kind),
        message.texts("bottom"),
        message.texts("top"),
        message,
        message.line,
        [item.text("name") for item in message.messages("param")],
    )


def _legacy_inputs(net: Message, schema: Schema, file: str, found: Diagnostics) -> list[Layer]:
    """``input`` fields as the one Input layer that Caffe makes of them."""
    names = net.texts("input")
    if not names:
        return []
    message = Message(schema, "LayerParameter", net.line_of("input"))
    shapes, dims = net.messages("input_shape"), net.integers("input_dim")
    if not shapes and dims and len(dims) % 4 == 0:
        for index in range(0, len(dims), 4):
            shape = Message(schema, "BlobShape", net.line_of("input_dim"))
            for size in dims[index : index + 4]:
                shape.put("dim", size)
            shapes.append(shape)
    if len(shapes) != len(names) and (shapes or dims):
        found.error(
            "DLA134",
            "caffe-network",
            f"{len(names)} inputs, but {len(dims)} input_dim and "
            f"{len(net.messages('input_shape'))} input_shape",
            location=Location(file=file, line=net.line_of("input")),
            help="give one input_shape, or four input_dim, for each input",
        )
        return []
    parameter = Message(schema, "InputParameter", message.line)
    for shape in shapes:
        parameter.put("shape", shape)
    message.put("input_param", parameter)
    return [Layer("input", "Input", [], names, message, message.line)]


def _runs(layer: Layer, state: Message, file: str, found: Diagnostics) -> bool:
    """True if a layer's rules let it run in the test phase."""
    include, exclude = layer.message.messages("include"), layer.message.messages("exclude")
    if include and exclude:
        found.error(
            "DLA134",
            "caffe-network",
            "the layer has rules to include and to exclude it",
            location=layer.location(file),
            help="keep one kind",
        )
    if include:
        return any(_meets(rule, state) for rule in include)
    return not any(_meets(rule, state) for rule in exclude)


def _meets(rule: Message, state: Message) -> bool:
    level, stages = state.integer("level"), set(state.texts("stage"))
    return (
        (not rule.has("phase") or rule.text("phase") == "TEST")
        and (not rule.has("min_level") or level >= rule.integer("min_level"))
        and (not rule.has("max_level") or level <= rule.integer("max_level"))
        and stages >= set(rule.texts("stage"))
        and not stages & set(rule.texts("not_stage"))
    )
