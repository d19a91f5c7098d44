"""Constants and declared types: shapes, element types, content."""

from __future__ import annotations

from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.semantic.draft import FLOATS, INTEGERS, SMALL, Draft, Mutation, pick

_TYPES = (*range(28), 99, -1, 2**31 - 1)
_PLAIN = (
    np.float32, np.float64, np.float16, np.int8, np.uint8, np.int16, np.int32, np.int64, np.bool_,
    np.uint64, np.complex64,
)  # fmt: skip


def _tensor(draft: Draft, random: Random) -> TensorProto | None:
    inside = [
        attribute.t
        for node in draft.graph.node
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.TENSOR
    ]
    tensors = [*draft.graph.initializer, *inside]
    return random.choice(tensors) if tensors else None


def _array(tensor: TensorProto) -> np.ndarray | None:
    try:
        return np.array(numpy_helper.to_array(tensor))
    except Exception:  # an earlier mutation has made it unreadable
        return None


def _store(tensor: TensorProto, array: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def dimensions(draft: Draft, random: Random) -> str:
    """Dims that do not fit the data."""
    tensor = _tensor(draft, random)
    if tensor is None:
        return ""
    how = random.choice(("one", "one", "more", "none", "many", "zero"))
    if how == "one" and tensor.dims:
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice(INTEGERS)
    elif how == "more":
        tensor.dims.append(random.choice((1, 1, 2**31, 2**62)))
    elif how == "none":
        del tensor.dims[:]
    elif how == "many":
        tensor.dims[:] = [1] * random.choice((8, 33, 65, 5000))
    else:
        tensor.dims[:] = [0, *tensor.dims]
    return f"dims of {tensor.name!r}: {list(tensor.dims)[:6]}"


def fitting_shape(draft: Draft, random: Random) -> str:
    """Another shape, with the data to it."""
    tensor = _tensor(draft, random)
    array = None if tensor is None else _array(tensor)
    if tensor is None or array is None:
        return ""
    shapes = (
        (array.size,), (1, array.size), (array.size, 1), (*array.shape, 1), (1, *array.shape),
        array.shape[::-1], array.shape[1:] or (1,),
    )  # fmt: skip
    shape = random.choice(shapes)
    if random.random() < 0.5:
        shape = tuple(random.choice((size, size, *SMALL)) for size in array.shape)
    if int(np.prod(shape)) > 1 << 20:
        return ""
    _store(tensor, np.resize(array, shape))
    return f"{tensor.name!r} of shape {shape}"


def content(draft: Draft, random: Random) -> str:
    """A few values, a row or all of them become extreme."""
    tensor = _tensor(draft, random)
    array = None if tensor is None else _array(tensor)
    if tensor is None or array is None or not array.size or array.dtype.kind not in "fiu":
        return ""
    value = random.choice(FLOATS if array.dtype.kind == "f" else INTEGERS)
    with np.errstate(all="ignore"):
        if array.dtype.kind != "f":
            low, high = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
            value = min(max(value, int(low)), int(high))
        how = random.choice(("one", "row", "all", "scale"))
        flat = array.reshape(-1)
        if how == "one":
            flat[random.randrange(flat.size)] = value
        elif how == "row" and array.ndim:
            array[random.randrange(len(array))] = value
        elif how == "scale" and array.dtype.kind == "f":
            array *= np.asarray(value, array.dtype)
        else:
            array[...] = value
    _store(tensor, array)
    return f"{how} of {tensor.name!r}: {value}"


def element_type(draft: Draft, random: Random) -> str:
    """Another type: stated only, or with the data converted."""
    tensor = _tensor(draft, random)
    if tensor is None:
        return ""
    array = _array(tensor)
    if array is None or random.random() < 0.4:
        tensor.data_type = random.choice(_TYPES)
        return f"{tensor.name!r} said to be of type {tensor.data_type}"
    kind = random.choice(_PLAIN)
    with np.errstate(all="ignore"):
        _store(tensor, array.astype(kind))
    return f"{tensor.name!r} as {kind.__name__}"


def small_types(draft: Draft, random: Random) -> str:
    """Elements of four bits and floats of eight, bits and bytes to measure."""
    tensor = _tensor(draft, random)
    if tensor is None:
        return ""
    count = int(np.prod([max(dim, 0) for dim in tensor.dims], dtype=object))
    tensor.data_type = random.choice((10, 16, 17, 18, 19, 20, 21, 22, 23))
    if count > 1 << 20:
        return ""
    for name in ("float_data", "int32_data", "int64_data", "double_data", "raw_data"):
        tensor.ClearField(name)
    size = {10: 2 * count, 16: 2 * count, 21: (count + 1) // 2, 22: (count + 1) // 2}
    tensor.raw_data = random.randbytes(size.get(tensor.data_type, count))
    return f"{tensor.name!r} of type {tensor.data_type}"


def storage(draft: Draft, random: Random) -> str:
    """Data in the wrong field, in two fields, too short, too long, in segments."""
    tensor = _tensor(draft, random)
    if tensor is None:
        return ""
    how = random.choice(("both", "none", "short", "long", "segment", "wrong", "typed"))
    if how == "both":
        tensor.float_data.extend([1.0, 2.0])
        tensor.int64_data.extend([1])
    elif how == "none":
        tensor.ClearField("raw_data")
        del tensor.float_data[:]
    elif how == "short":
        tensor.raw_data = tensor.raw_data[:-1]
    elif how == "long":
        tensor.raw_data += b"\0" * random.choice((1, 4, 100))
    elif how == "segment":
        tensor.segment.begin, tensor.segment.end = 0, random.choice(INTEGERS)
    elif how == "wrong":
        tensor.ClearField("raw_data")
        tensor.string_data.extend([b"\xff\xfe"] * 3)
    else:
        array = _array(tensor)
        if array is None or array.dtype != np.float32 or array.size > 5000:
            return ""
        made = helper.make_tensor(tensor.name, TensorProto.FLOAT, array.shape, array.reshape(-1))
        tensor.CopyFrom(made)
    return f"data of {tensor.name!r}: {how}"


def strings(draft: Draft, random: Random) -> str:
    tensor = _tensor(draft, random)
    if tensor is None:
        return ""
    values = [random.choice((b"", b"\xff", "ä".encode(), b"x" * 100)) for _ in range(3)]
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.STRING, [3], values))
    return f"{tensor.name!r} holds texts"


def sparse(draft: Draft, random: Random) -> str:
    index = pick(random, draft.graph.initializer)
    if index is None:
        return ""
    name = draft.graph.initializer[index].name
    values = helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])
    places = helper.make_tensor("places", TensorProto.INT64, [2], [0, random.choice((1, 2**40))])
    draft.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**20, 2**20]))
    if random.random() < 0.7:
        del draft.graph.initializer[index]
    return f"{name!r} is sparse"


def constant_names(draft: Draft, random: Random) -> str:
    """Two constants of one name, nameless ones, and names of results."""
    index = pick(random, draft.graph.initializer)
    if index is None:
        return ""
    tensor = draft.graph.initializer[index]
    before = tensor.name
    how = random.choice(("twice", "nameless", "result"))
    if how == "twice":
        draft.graph.initializer.append(tensor)
    elif how == "nameless":
        tensor.name = ""
    else:
        results = [name for node in draft.graph.node for name in node.output]
        tensor.name = random.choice(results) if results else "nothing"
    return f"constant {before!r}: {how}"


def declared(draft: Draft, random: Random) -> str:
    """Dims and types that inputs, outputs and values are declared with."""
    graph = draft.graph
    kind = random.choice((graph.input, graph.input, graph.output, graph.value_info))
    if (index := pick(random, kind)) is None:
        return ""
    info = kind[index]
    dims = info.type.tensor_type.shape.dim
    how = random.choice(("dim", "dim", "dim", "open", "type", "rank", "none", "symbol", "twice"))
    if how == "dim" and dims:
        dims[random.randrange(len(dims))].dim_value = random.choice(INTEGERS)
    elif how == "open":
        for dim in dims:
            dim.Clear()
    elif how == "type":
        info.type.tensor_type.elem_type = random.choice((0, 1, 2, 3, 7, 8, 9, 10, 11, 16, 17, 99))
    elif how == "rank":
        for _ in range(random.choice((1, 2, 70))):
            dims.add().dim_value = random.choice((1, 1, 2))
    elif how == "none":
        info.type.Clear()
    elif how == "symbol" and dims:
        symbol = random.choice(("N", "", "ä", "unk__0", "-1", "N*2", "x" * 2000))
        dims[random.randrange(len(dims))].dim_param = symbol
    elif how == "twice":
        kind.append(info)
    return f"{info.name!r} declared: {how} {[dim.dim_value for dim in dims][:6]}"


def container_types(draft: Draft, random: Random) -> str:
    """Sequences, optionals, maps and sparse tensors as inputs and outputs."""
    index = pick(random, draft.graph.input)
    if index is None:
        return ""
    info = random.choice([draft.graph.input[index], *draft.graph.output])
    inner = helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 2])
    made = random.choice(
        (
            helper.make_sequence_type_proto(inner),
            helper.make_optional_type_proto(inner),
            helper.make_map_type_proto(TensorProto.INT64, inner),
            helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
        )
    )
    info.type.CopyFrom(made)
    return f"{info.name!r} is no tensor"


def stale_values(draft: Draft, random: Random) -> str:
    """Declared shapes of inner values that contradict the graph."""
    results = [name for node in draft.graph.node for name in node.output if name]
    if not results:
        return ""
    for _ in range(random.choice((1, 10))):
        shape = random.choice(([1], [], [2**40, 3], [1, 16, 6, 6], [1, 0, -1, 5], ["N"], None))
        kind = random.choice((TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING))
        info = helper.make_tensor_value_info(random.choice(results), kind, shape)
        draft.graph.value_info.append(info)
    return "wrong value_info"


MUTATIONS: tuple[Mutation, ...] = (
    dimensions, dimensions, fitting_shape, fitting_shape, content, content, content, element_type,
    element_type, small_types, storage, strings, sparse, constant_names, declared, declared,
    declared, container_types, stale_values,
)  # fmt: skip
