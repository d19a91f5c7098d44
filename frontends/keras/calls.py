"""Calls of layers, and the tensors that they read, as Keras 2 and 3 write them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_CONSTANT = "_CONSTANT_VALUE"


class BadNetworkError(Exception):
    """A description that cannot be followed."""


@dataclass(frozen=True)
class TensorRef:
    """A tensor: the result of a call of a layer.

    Attributes:
        layer: the layer's name within its model.
        call: which of its calls made it.
        index: which of the results of that call.
    """

    layer: str
    call: int
    index: int


@dataclass(frozen=True)
class Call:
    """What a layer is called with: tensors as `TensorRef`, all else as JSON has it.

    Attributes:
        arguments: by position.
        keywords: by name.
        new: whether it is written as Keras 3 does.
    """

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    new: bool = False


def references(value: Any) -> Iterator[TensorRef]:
    """The tensors in an argument, in order."""
    if isinstance(value, TensorRef):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


def substituted(value: Any, replace: Callable[[TensorRef], Any]) -> Any:
    """An argument with other things in place of its tensors."""
    if isinstance(value, TensorRef):
        return replace(value)
    if isinstance(value, Mapping):
        return {key: substituted(item, replace) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(substituted(item, replace) for item in value)
    return value


def call_of(node: Any, name: str, layers: Container[str]) -> Call:
    """A call as a node of a layer describes it.

    Args:
        node: the node, of either generation.
        name: the layer's name.
        layers: the names of all layers.

    Raises:
        BadNetworkError: if it is no call.
    """
    if isinstance(node, Mapping):
        arguments, keywords = node.get("args"), node.get("kwargs") or {}
        if not isinstance(arguments, list) or not isinstance(keywords, Mapping):
            raise BadNetworkError(f"a call of {name!r} without args")
        return Call(
            tuple(_argument(item) for item in arguments),
            {key: _argument(item) for key, item in keywords.items()},
            new=True,
        )
    if not isinstance(node, (list, tuple)) or not node:
        raise BadNetworkError(f"a call of {name!r} without tensors")
    items = [node] if isinstance(node[0], str) else list(node)
    tensors, keywords = [], {}
    for item in items:
        if not isinstance(item, list) or len(item) < 3:
            raise BadNetworkError(f"a call of {name!r} with {str(item)[:60]}")
        if item[0] == _CONSTANT:
            tensors.append(item[2])
        else:
            tensors.append(_old_tensor(item))
        if len(item) > 3 and isinstance(item[3], Mapping):
            keywords |= {key: _old_keyword(value, layers) for key, value in item[3].items()}
    first = tensors[0] if len(tensors) == 1 else tensors
    return Call((first,), keywords)


def _argument(value: Any) -> Any:
    if isinstance(value, list):
        return [_argument(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if not isinstance(kind, str):
        return {key: _argument(item) for key, item in value.items()}
    if kind == "__keras_tensor__" and isinstance(config, Mapping):
        return _old_tensor(config.get("keras_history"))
    if kind == "__tuple__":
        return [_argument(item) for item in value.get("items") or config or []]
    if kind in {"__tensor__", "__numpy__"} and isinstance(config, Mapping):
        return config.get("value")
    return {key: _argument(item) for key, item in value.items()}


def _old_keyword(value: Any, layers: Container[str]) -> Any:
    if isinstance(value, list):
        is_tensor = len(value) == 3 and isinstance(value[0], str) and value[0] in layers
        if is_tensor and all(type(item) is int for item in value[1:]):
            return _old_tensor(value)
        return [_old_keyword(item, layers) for item in value]
    if isinstance(value, Mapping):
        return {key: _old_keyword(item, layers) for key, item in value.items()}
    return value


def _old_tensor(value: Any) -> TensorRef:
    if (
        not isinstance(value, list)
        or len(value) < 3
        or not isinstance(value[0], str)
        or not all(type(item) is int and item >= 0 for item in value[1:3])
    ):
        raise BadNetworkError(f"{str(value)[:60]} is no tensor")
    return TensorRef(value[0], value[1], value[2])


def tensors_of(value: Any, what: str) -> list[TensorRef]:
    """``["x", 0, 0]`` for one tensor, ``[["x", 0, 0], ...]`` or a mapping for several."""
    if isinstance(value, Mapping):
        value = [value[name] for name in sorted(value)]  # as Keras orders them
    if not isinstance(value, list):
        raise BadNetworkError(f"no {what}")
    if value and isinstance(value[0], str):
        return [_old_tensor(value)]
    found: list[TensorRef] = []
    for item in value:
        found += tensors_of(item, what) if isinstance(item, Mapping) else [_old_tensor(item)]
    return found
