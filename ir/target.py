"""The hardware as data: what a target accepts, read from a JSON file.

`Target.load` reads ``schemas/access-1.2.0.json`` or a user's own file (``--target FILE``); the
format is ``schemas/target.schema.json``. Nothing else in dlaconv knows a limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
    """

    kernel: Interval
    strides: tuple[int, ...]
    padding: Interval
    map_size: Interval


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
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(data) - known - {"$schema", "comment"}):
            raise ValueError(f"unknown keys: {', '.join(unknown)}")
        values: dict[str, Any] = {}
        for item in fields(cls):
            if item.name in data:
                values[item.name] = _parse(item.name, str(item.type), data[item.name])
        try:
            return cls(**values)
        except TypeError:
            required = known - {"attribute_aliases", "deprecated_attributes"}
            raise ValueError(f"missing keys: {', '.join(sorted(required - set(data)))}") from None

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
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("a target file holds one JSON object")
        return cls.from_json(data)


def _parse(key: str, kind: str, value: Any) -> Any:
    try:
        if kind == "Interval":
            low, high = value
            return int(low), int(high)
        if kind == "KernelLimits":
            return KernelLimits(
                kernel=_parse(key, "Interval", value["kernel"]),
                strides=tuple(int(stride) for stride in value["strides"]),
                padding=_parse(key, "Interval", value["padding"]),
                map_size=_parse(key, "Interval", value["map_size"]),
            )
        if kind.startswith("tuple[int"):
            return tuple(int(item) for item in value)
        if kind.startswith("tuple[str"):
            return tuple(str(item) for item in value)
        if kind in {"int", "str", "bool"} and type(value).__name__ != kind:
            raise TypeError
        if kind.startswith("Mapping") and not isinstance(value, dict):
            raise TypeError
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            f"key {key!r} has the wrong form: expected {kind}, got {value!r}"
        ) from None
    return value
