"""How pictures become the values that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

PRESETS = ("torchvision", "tf", "caffe", "unit", "raw")
LAYOUTS = ("nchw", "nhwc")

CHANNELS = (1, 3)
"""Numbers of channels that pictures have."""

_BYTE = 255.0
_PICTURE = 4
"""Axes of a network's input that takes pictures."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture of 0..255: resize, crop, then ``(x * scale - mean) / std``.

    None (or False) stands for what the preset says, and without one for nothing done.

    Attributes:
        preset: one of `PRESETS`: ``torchvision`` (ImageNet's mean and deviation, central 7/8),
            ``tf`` (-1..1) and ``caffe`` (BGR less its mean) as in Keras, ``unit`` (0..1), ``raw``
            (0..255).
        mean: one value, or one per channel in the network's order.
        std: the same.
        scale: what a pixel is multiplied by.
        bgr: the network takes blue first.
        resize: length of the shorter side, or height and width; what the crop needs if None.
        crop: side, or height and width, of the central part; the network's size if None.
        layout: ``nchw`` or ``nhwc``; told from the network's input if None.
    """

    preset: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    bgr: bool = False
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    layout: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the settings that say anything."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name))

    @property
    def says_values(self) -> bool:
        """True if it says which values the network takes."""
        return any(item is not None for item in (self.preset, self.mean, self.std, self.scale))

    def with_preset(self) -> Preprocessing:
        """The same with the preset's values where none are given."""
        known = _PRESETS.get(self.preset or "")
        if known is None:
            return self
        kept: dict[str, Any] = {name: getattr(self, name) for name in self.given}
        return replace(known, **kept)

    def per_channel(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation, one for all channels or one for each, with the preset's.

        Raises:
            ValueError: if there are as many as neither, or a deviation is zero.
        """
        how, found = self.with_preset(), []
        for name, values, default in (("mean", how.mean, 0.0), ("std", how.std, 1.0)):
            values = values or (default,)
            if channels == 1 and self.preset and len(values) == 3:
                values = (sum(values) / 3,)
            if len(values) not in {1, channels}:
                raise ValueError(f"has {channels} channels, --{name} has {len(values)} values")
            found.append(values)
        if 0 in found[1]:
            raise ValueError("cannot have values that are divided by a --std of zero")
        return found[0], found[1]

    def affine(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Factors and offsets of pixels, one for all channels or one for each.

        Raises:
            ValueError: as `per_channel` does.
        """
        mean, std = self.per_channel(channels)
        known = self.with_preset().scale
        scale = 1.0 if known is None else known
        count = max(len(mean), len(std))
        pairs = zip(mean * (count // len(mean)), std * (count // len(std)), strict=True)
        terms = [(scale / s, (0.0 - m) / s) for m, s in pairs]
        return tuple(f for f, _ in terms), tuple(o for _, o in terms)

    def channel_axis(self, shape: Sequence[int | None]) -> int | None:
        """The axis of the channels of a network's input, None if it takes no pictures."""
        if len(shape) != _PICTURE:
            return None
        if self.layout is not None:
            return 3 if self.layout == "nhwc" else 1
        return 3 if shape[1] not in CHANNELS and shape[3] in CHANNELS else 1

    def as_json(self) -> dict[str, Any]:
        """The settings that say anything, as JSON values."""
        values = {name: getattr(self, name) for name in self.given}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


PLAIN = Preprocessing()
"""Nothing is said about pictures."""

_PRESETS = {
    "torchvision": Preprocessing(
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / _BYTE
    ),
    "tf": Preprocessing(mean=(1.0,), scale=2 / _BYTE),
    "caffe": Preprocessing(mean=(103.939, 116.779, 123.68), bgr=True),
    "unit": Preprocessing(scale=1 / _BYTE),
    "raw": Preprocessing(),
}
CENTRAL = {"torchvision": 224 / 256}
"""Share of the shorter side that presets crop; the others take the largest crop of the shape."""
