"""The hardware as data: what a target accepts, read from a JSON file.

`Target.load` reads ``schemas/access-1.2.0.json`` or a user's own file (``--target FILE``); the
format is ``schemas/target.schema.json``. Nothing else in dlaconv knows a limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

Interval = tuple[int, int]
"""An inclusive range of integers."""


@dataclass(frozen=True)
class KernelLimits:
    """What one kind of window operator (convolution, pooling) may do.

    Attributes:
        kernel: allowed kernel extents, each axis on its own.
        strides: allowed strides.
        padding: allowed padding on each side.
        map_size: allowed height and width of the input map.
        channels: allowed channels of the input map and of the result.
    """

    kernel: Interval
    strides: tuple[int, ...]
    padding: Interval
    map_size: Interval
    channels: Interval


@dataclass(frozen=True)
class Target:
    """Limits, formats and attribute names of one accelerator.

    Attributes:
        name: what reports call it.
        version: version of the guide that it describes.
        opset: ONNX opset to write.
        opset_hardswish: ONNX opset to write when a HardSwish is kept.
        ir_version: ONNX IR version to write.
        map_bits: bits of a feature map.
        weight_bits: bits of a weight.
        bias_bits: bits of a bias.
        accumulator_bits: bits of the accumulator.
        signed_maps: True if maps are signed; unsigned ones keep 8 bits after ReLU.
        scale_divisor: range of ``a`` in a weight scale of 2^n / a.
        max_shift: largest right shift of a requantisation.
        min_shift: smallest right shift that still compiles; below zero it is a left shift.
        input_channels: channels of a graph input.
        input_size: height and width of a graph input.
        map_channels: channels of every other map.
        channel_multiple: what the channels of every other map must be a multiple of.
        map_size: height and width of every map that the hardware produces.
        conv: limits of standard convolution.
        depthwise: limits of depth-wise convolution.
        max_pool: limits of max pooling.
        max_pool_kernels: allowed square kernels of max pooling.
        average_pool: limits of average pooling.
        fc_channels: channels in and out of a fully connected layer.
        weight_buffer: bytes that the weights of one layer may take, 0 for no limit.
        ops: ONNX operators that the hardware runs, each with the attributes it carries
            (attribute name to ``float``, ``int`` or ``floats``).
        same_scale_ops: operators whose input and output have one scale.
        attribute_aliases: names that the reader accepts for an attribute.
        deprecated_attributes: names that a file must not use.
    """

    name: str
    version: str
    opset: int
    opset_hardswish: int
    ir_version: int
    map_bits: int
    weight_bits: int
    bias_bits: int
    accumulator_bits: int
    signed_maps: bool
    scale_divisor: Interval
    max_shift: int
    input_channels: Interval
    input_size: Interval
    map_channels: Interval
    channel_multiple: int
    map_size: Interval
    conv: KernelLimits
    depthwise: KernelLimits
    max_pool: KernelLimits
    max_pool_kernels: tuple[int, ...]
    average_pool: KernelLimits
    fc_channels: Interval
    weight_buffer: int
    ops: Mapping[str, Mapping[str, str]]
    same_scale_ops: tuple[str, ...]
    min_shift: int = 0
    attribute_aliases: Mapping[str, str] = field(default_factory=dict)
    deprecated_attributes: tuple[str, ...] = ()

    @property
    def map_range(self) -> Interval:
        """Smallest and largest integer of a signed feature map."""
        return -(1 << (self.map_bits - 1)), (1 << (self.map_bits - 1)) - 1

    @property
    def weight_range(self) -> Interval:
        """Smallest and largest integer of a weight."""
        return -(1 << (self.weight_bits - 1)), (1 << (self.weight_bits - 1)) - 1

    @property
    def bias_range(self) -> Interval:
        """Smallest and largest integer of a bias."""
        return -(1 << (self.bias_bits - 1)), (1 << (self.bias_bits - 1)) - 1

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        """Builds a target from the parsed JSON of a target file.

        Raises:
            ValueError: naming the key that is missing, unknown or of the wrong form.
        """
        return cls(**_members(cls, data, "", ignored=_COMMENTS))

    @classmethod
    def load(cls, path: Path | None = None) -> Target:
        """Reads a target file, the built-in ACCESS description without ``path``.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is no valid target description.
        """
        if path is None:
            from importlib.resources import files

            text = files("dlaconv.schemas").joinpath("access-1.2.0.json").read_text("utf-8")
        else:
            text = path.read_text("utf-8")
        try:
            data = json.loads(text)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        if not isinstance(data, dict):
            raise ValueError("a target file holds one JSON object")
        return cls.from_json(data)


_COMMENTS = frozenset({"$schema", "comment"})
_POSITIVE = frozenset({"opset", "opset_hardswish", "ir_version", "channel_multiple"})
_MOST_BITS = 64
_MOST_DIVISOR = 255  # what dlaconv.ir.formats.ReciprocalDyadic holds
_ATTRIBUTE_TYPES = ("float", "int", "floats")


def _members(
    cls: type[Target | KernelLimits],
    data: Mapping[str, Any],
    inside: str,
    ignored: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The constructor arguments of a dataclass from a JSON object, every key accounted for."""
    prefix = f"{inside}." if inside else ""
    known = {item.name: item for item in fields(cls)}
    required = [
        name
        for name, item in known.items()
        if item.default is MISSING and item.default_factory is MISSING
    ]
    if unknown := sorted(set(data) - set(known) - ignored):
        raise ValueError(f"unknown keys: {', '.join(prefix + key for key in unknown)}")
    if missing := [name for name in required if name not in data]:
        raise ValueError(f"missing keys: {', '.join(prefix + key for key in missing)}")
    return {
        name: _parse(prefix + name, str(item.type), data[name])
        for name, item in known.items()
        if name in data
    }


def _parse(key: str, kind: str, value: Any) -> Any:
    if kind == "KernelLimits":
        if not isinstance(value, dict):
            raise _wrong(key, "an object", value)
        return KernelLimits(**_members(KernelLimits, value, key))
    if kind == "Interval":
        if key == "scale_divisor":
            return _interval(key, value, 1, _MOST_DIVISOR)
        return _interval(key, value)
    if kind == "tuple[int, ...]":
        if not (items := _sequence(key, value)):
            raise _wrong(key, "at least one integer", value)
        return tuple(_integer(key, item, 1) for item in items)
    if kind == "tuple[str, ...]":
        return tuple(_text(key, item) for item in _sequence(key, value))
    if kind == "bool":
        if not isinstance(value, bool):
            raise _wrong(key, "true or false", value)
        return value
    if kind == "int":
        if key.endswith("_bits"):
            return _integer(key, value, 1, _MOST_BITS)
        if key == "min_shift":
            return _integer(key, value, -_MOST_BITS)
        return _integer(key, value, 1 if key in _POSITIVE else 0)
    if kind == "str":
        return _text(key, value)
    if not isinstance(value, dict):
        raise _wrong(key, "an object", value)
    if key == "ops":
        return {op: _attributes(f"ops.{op}", types) for op, types in value.items()}
    return {name: _text(f"{key}.{name}", text) for name, text in value.items()}


def _wrong(key: str, expected: str, value: Any) -> ValueError:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ValueError(f"key {key!r} has the wrong form: expected {expected}, got {shown}")


def _integer(key: str, value: Any, lowest: int, highest: int = 2**31 - 1) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise _wrong(key, f"an integer from {lowest} to {highest}", value)
    return value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(key, "a non-empty string", value)
    return value


def _sequence(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(key, "a list", value)
    return value


def _interval(key: str, value: Any, lowest: int = 0, highest: int = 2**31 - 1) -> Interval:
    if isinstance(value, list) and len(value) == 2:
        low, high = value
        if type(low) is int and type(high) is int and lowest <= low <= high <= highest:
            return low, high
    raise _wrong(key, f"two integers [low, high] with {lowest} <= low <= high <= {highest}", value)


def _attributes(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _wrong(key, "an object", value)
    for name, kind in value.items():
        if kind not in _ATTRIBUTE_TYPES:
            raise _wrong(f"{key}.{name}", f"one of {', '.join(_ATTRIBUTE_TYPES)}", kind)
    return value
