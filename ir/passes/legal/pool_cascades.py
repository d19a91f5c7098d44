"""Which small windows, one after another, make a large one.

Windows of extents k1, k2, ... with strides s1, s2, ... cover, one behind the other,
``1 + (k1 - 1) + (k2 - 1) s1 + (k3 - 1) s1 s2 + ...`` elements and move by ``s1 s2 ...``. The
hardware's windows have one extent for both axes, and one stride for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Axis:
    """What is left to do along one axis.

    Attributes:
        extent: how many elements a window covers; one if nothing is left but the stride.
        stride: how far windows are apart.
        whole: True if the one window covers the whole axis of ``extent`` elements, so that smaller
            windows may be anywhere as long as they cover it, too.
    """

    extent: int
    stride: int = 1
    whole: bool = False

    @property
    def done(self) -> bool:
        """True if pooling has nothing left to do; a stride may be left."""
        return self.extent == 1

    def after(self, kernel: int, stride: int) -> Axis | None:
        """What is left behind a window; None if it makes this axis impossible."""
        if self.whole:
            if stride > kernel:
                return None
            return Axis(-(-max(self.extent - kernel, 0) // stride) + 1, 1, whole=True)
        rest = self.extent - kernel
        if rest < 0 or rest % stride or self.stride % stride:
            return None
        return Axis(rest // stride + 1, self.stride // stride)


@dataclass(frozen=True)
class Stage:
    """A window of the hardware.

    Attributes:
        kernel: its extent along both axes.
        strides: along each axis.
    """

    kernel: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Cascade:
    """Windows one after another.

    Attributes:
        stages: the windows.
        left: the stride that they leave to be taken along each axis.
    """

    stages: tuple[Stage, ...]
    left: tuple[int, ...]


Axes = tuple[Axis, ...]


def shortest_cascade(
    axes: Axes, kernels: tuple[int, ...], strides: tuple[int, ...]
) -> Cascade | None:
    """The fewest windows that make the windows along all axes at once.

    Among equally many, large strides come first: they leave less to do.

    Args:
        axes: what the windows have to cover.
        kernels: extents of the hardware's windows.
        strides: their strides.

    Returns:
        None if nothing makes them.
    """
    found: dict[Axes, tuple[Stage, ...]] = {axes: ()}
    reached = [axes]
    while reached:
        following: list[Axes] = []
        for state in reached:
            if all(axis.done for axis in state):
                return Cascade(found[state], tuple(axis.stride for axis in state))
            for stage, rest in _steps(state, kernels, strides):
                if rest not in found:
                    found[rest] = (*found[state], stage)
                    following.append(rest)
        reached = following
    return None


def _steps(
    axes: Axes, kernels: tuple[int, ...], strides: tuple[int, ...]
) -> Iterator[tuple[Stage, Axes]]:
    fastest = sorted(strides, reverse=True)
    for steps in product(fastest, repeat=len(axes)):
        for kernel in sorted(kernels, reverse=True):
            if kernel == 1:
                continue  # covers nothing more, and an axis may be turned in circles
            rest = [axis.after(kernel, step) for axis, step in zip(axes, steps, strict=True)]
            left = tuple(axis for axis in rest if axis is not None)
            if len(left) == len(axes):
                yield Stage(kernel, steps), left
