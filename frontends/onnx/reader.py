"""Reading ONNX files that nobody vouches for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UnreadableError
from dlaconv.frontends.onnx import problems, validate
from dlaconv.frontends.onnx.weights import Weights, mapped
from dlaconv.frontends.onnx.wire import (
    CrowdedError,
    Span,
    WireError,
    attribute_names,
    operators,
    without_weights,
)
from dlaconv.ir import provenance

if TYPE_CHECKING:
    import onnx

# What onnx_ir logs of a file is said better by our own checks; unhandled, it would go to stderr.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())

_MOST_BYTES = 1 << 30
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive", "a PyTorch or Keras file, say: export it to ONNX first"),
    (b"\x89HDF\r\n", "an HDF5 file", "use dlaconv from-keras"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x80\x02", "a Python pickle", "export the network to ONNX; pickles are never opened"),
    (b"\x80\x04", "a Python pickle", "export the network to ONNX; pickles are never opened"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the real file: git lfs pull"),
)


def read_onnx(path: Path, private: Collection[str] = ()) -> ir.Model:
    """Reads an ONNX file of any version that the onnx package knows.

    Nothing in the file is trusted. Large weights stay in the mapped file until they are used, so
    memory is bounded by the size of the graph. External data is only read from the model's folder.

    Args:
        path: the file.
        private: attributes that standard operators may carry although ONNX does not know them.

    Returns:
        The model as it is in the file: valid, but in its own opset and with its own names.

    Raises:
        UnreadableError: if the file is no valid ONNX model, with every reason found.
    """
    file = str(path)
    data = _bytes_of(path)
    try:
        proto, spans = _parse(data, file)
        return _checked(proto, spans, Weights(path, data), private)
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # the parsers below us raise whatever they meet
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise UnreadableError(
            problems.not_onnx(file, f"the model cannot be read: {reason}")
        ) from error


def operators_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (domain, op type) of the nodes of an ONNX file, without loading it.

    A file that is none, or is damaged, ends the sequence early.
    """
    data = mapped(path)
    if data is None or _foreign(data):
        return
    try:
        yield from operators(data)
    except WireError:
        return


def attributes_of(path: Path) -> set[str]:
    """The names of the attributes of all nodes of an ONNX file, without loading it.

    Those of a file that is none, or up to where it is damaged.
    """
    data, found = mapped(path), set[str]()
    if data is None or _foreign(data):
        return found
    try:
        found.update(attribute_names(data))
    except WireError:
        return found
    return found


def _bytes_of(path: Path) -> memoryview:
    file = str(path)
    if path.is_dir():
        raise UnreadableError(problems.not_a_file(file, "this is a folder, not an ONNX file"))
    if not path.exists():
        raise UnreadableError(problems.not_a_file(file, "there is no such file"))
    data = mapped(path)
    if data is None:
        raise UnreadableError(problems.not_a_file(file, "the file cannot be read"))
    if len(data) == 0:
        raise UnreadableError(problems.not_onnx(file, "the file is empty"))
    if found := _foreign(data):
        kind, remedy = found
        raise UnreadableError(problems.not_onnx(file, f"this is {kind}, not ONNX", remedy))
    return data


def _foreign(data: memoryview) -> tuple[str, str] | None:
    head = bytes(data[:64])
    for magic, kind, remedy in _FOREIGN:
        if head.startswith(magic):
            return kind, remedy
    if head[:1] not in {b"\x08", b"\n", b"\r", b"\t"} and all(9 <= byte < 127 for byte in head):
        return "a text file", "give the binary .onnx file"
    return None


def _parse(data: memoryview, file: str) -> tuple[onnx.ModelProto, dict[int, Span]]:
    import onnx

    try:
        serialised, spans = without_weights(data)
    except CrowdedError as error:
        raise UnreadableError(problems.too_large(file, str(error))) from error
    except WireError as error:
        raise UnreadableError(
            problems.not_onnx(
                file, f"the file is damaged, cut off or no ONNX file: {error} of {len(data)}"
            )
        ) from error
    if len(serialised) > _MOST_BYTES:
        raise UnreadableError(
            problems.too_large(file, f"{len(serialised)} bytes besides its weights")
        )
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(serialised)
    except Exception as error:  # DecodeError, which protobuf gives no types for
        raise UnreadableError(
            problems.not_onnx(
                file, "the file is no ONNX model, or nests graphs deeper than protobuf reads"
            )
        ) from error
    return proto, spans


def _checked(
    proto: onnx.ModelProto, spans: dict[int, Span], weights: Weights, private: Collection[str]
) -> ir.Model:
    file = weights.file
    if not proto.HasField("graph"):
        raise UnreadableError(problems.not_onnx(file, "the file holds no graph"))
    if (where := _broken_text(proto)) is not None:
        raise UnreadableError(problems.not_onnx(file, f"{where} is no UTF-8 text"))
    _raise(validate.versions(proto, file))
    views = {}
    for index, tensor in enumerate(proto.graph.initializer):
        view = weights.check(tensor, spans.get(index))
        if view is not None:
            views[tensor.name] = view
            _detach(tensor)
    inline = list(_attribute_tensors(proto))
    copies = [(tensor, weights.check(tensor)) for tensor in inline]
    if weights.bomb is not None:
        weights.found.append(weights.bomb)
    _raise(weights.found)
    for tensor, view in copies:
        if view is not None:
            tensor.raw_data = view.tobytes()
            _detach(tensor)
    _use_short_domain(proto)
    _raise(validate.graph(proto, file, private))
    model = ir.from_proto(proto)
    for name, view in views.items():
        model.graph.initializers[name].const_value = view
    provenance.name_weight_files(model, weights.files)
    for value in model.graph.initializers.values():  # what value_info says of it may be stale
        if value.const_value is not None:
            dims = [dim for dim in value.const_value.shape if isinstance(dim, int)]
            value.shape = ir.Shape(dims)
            value.dtype = value.const_value.dtype
    return model


def _detach(tensor: onnx.TensorProto) -> None:
    """Leaves nothing of external data for others to follow, or to warn of."""
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def _broken_text(message: Any) -> str | None:
    """The field of a message whose text cannot be decoded; protobuf returns it as bytes."""
    for field, value in message.ListFields():
        if field.type not in {field.TYPE_STRING, field.TYPE_MESSAGE}:
            continue
        entries = (
            [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        )
        for entry in entries:
            if isinstance(entry, bytes):
                return f"{field.full_name} {entry[:40]!r}"
            if not isinstance(entry, str) and (found := _broken_text(entry)) is not None:
                return found
    return None


def _use_short_domain(proto: onnx.ModelProto) -> None:
    """``ai.onnx`` is another name of the empty domain, which most tools expect."""
    opsets = [*proto.opset_import]
    for function in proto.functions:
        opsets.extend(function.opset_import)
    for entry in [*opsets, *_all_nodes(proto)]:
        if entry.domain == "ai.onnx":
            entry.domain = ""


def _all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph, of the functions and of all subgraphs."""
    nodes = [*proto.graph.node]
    for function in proto.functions:
        nodes.extend(function.node)
    while nodes:
        node = nodes.pop()
        yield node
        for attribute in node.attribute:
            for graph in _subgraphs(attribute):
                nodes.extend(graph.node)


def _subgraphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _attribute_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors in attributes and in the initializers of subgraphs."""
    for node in _all_nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in _subgraphs(attribute):
                yield from graph.initializer


def _raise(found: Iterable[Diagnostic]) -> None:
    """Raises what was found; beyond the first 20 findings only their number."""
    listed = list(dict.fromkeys(found))
    if not listed:
        return
    shown = listed[: problems.MOST_REPORTED]
    if len(listed) > len(shown):
        shown.append(
            problems.invalid_graph(
                shown[0].location.file,
                f"{len(listed) - len(shown)} more problems of this kind",
                "mend those above first",
            )
        )
    raise UnreadableError(shown)
