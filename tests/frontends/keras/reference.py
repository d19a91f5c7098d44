"""What Keras computes, on channels-last arrays, window by window."""

import itertools

import numpy as np


def padding(size, kernel, stride, dilation, kind):
    """The number of windows and the padding at both ends of an axis."""
    extent = (kernel - 1) * dilation + 1
    if kind == "valid":
        return (size - extent) // stride + 1, 0, 0
    if kind == "causal":
        return (size - 1) // stride + 1, extent - 1, 0
    count = (size + stride - 1) // stride
    total = max((count - 1) * stride + extent - size, 0)
    return count, total // 2, total - total // 2


def windows(x, kernel, stride, dilation, kind, fill):
    """Every window of a map ``[N, ..., C]``: its place, and ``[N, k, ..., C]``."""
    axes = [
        padding(*item, kind) for item in zip(x.shape[1:-1], kernel, stride, dilation, strict=True)
    ]
    padded = np.pad(x, [(0, 0), *((a[1], a[2]) for a in axes), (0, 0)], constant_values=fill)
    for place in itertools.product(*(range(a[0]) for a in axes)):
        cut = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(place, stride, kernel, dilation, strict=True)
        )
        yield place, padded[(slice(None), *cut)]


def collect(places):
    """A map of what was made of each window."""
    places = list(places)
    size = [max(place[axis] for place, _ in places) + 1 for axis in range(len(places[0][0]))]
    first = places[0][1]
    found = np.zeros((len(first), *size, first.shape[-1]))
    for place, value in places:
        found[(slice(None), *place)] = value
    return found


def convolution(x, kernel, stride, dilation, kind, groups=1):
    """A convolution with a kernel ``[..., I, O]``."""
    axes, each = kernel.shape[:-2], kernel.shape[-1] // groups

    def one(window):
        parts = np.split(window, groups, axis=-1)
        weights = [kernel[..., g * each : (g + 1) * each] for g in range(groups)]
        flat = [
            part.reshape(len(x), -1) @ w.reshape(-1, each)
            for part, w in zip(parts, weights, strict=True)
        ]
        return np.concatenate(flat, -1)

    return collect((p, one(w)) for p, w in windows(x, axes, stride, dilation, kind, 0))


def depthwise(x, kernel, stride, dilation, kind):
    """A depthwise convolution with a kernel ``[..., C, m]``: output ``c * m + j``."""
    axes, (channels, multiplier) = kernel.shape[:-2], kernel.shape[-2:]

    def one(window):
        sums = [
            (window[..., c] * kernel[..., c, j]).reshape(len(x), -1).sum(-1)
            for c in range(channels)
            for j in range(multiplier)
        ]
        return np.stack(sums, -1)

    return collect((p, one(w)) for p, w in windows(x, axes, stride, dilation, kind, 0))


def transposed(x, kernel, stride, dilation, result):
    """The transpose of a convolution with a kernel ``[..., O, I]``; ``result``: counts and cuts."""
    axes = kernel.shape[:-2]
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[1:-1], stride, axes, dilation, strict=True)
    ]
    more = [max(count + cut - size, 0) for (count, cut), size in zip(result, full, strict=True)]
    found = np.zeros((len(x), *(a + b for a, b in zip(full, more, strict=True)), kernel.shape[-2]))
    for place in itertools.product(*(range(n) for n in x.shape[1:-1])):
        for at in itertools.product(*(range(k) for k in axes)):
            where = tuple(
                p * s + a * d for p, s, a, d in zip(place, stride, at, dilation, strict=True)
            )
            found[(slice(None), *where)] += x[(slice(None), *place)] @ kernel[at].T
    return found[(slice(None), *(slice(cut, cut + count) for count, cut in result))]


def maximum(x, kernel, stride, kind):
    """A max pool; padding never wins."""
    ones = (1,) * len(kernel)
    return collect(
        (p, w.max(axis=tuple(range(1, w.ndim - 1))))
        for p, w in windows(x, kernel, stride, ones, kind, -np.inf)
    )


def average(x, kernel, stride, kind):
    """A mean pool; padding does not count."""
    ones = (1,) * len(kernel)
    return collect(
        (p, np.nanmean(w, axis=tuple(range(1, w.ndim - 1))))
        for p, w in windows(x, kernel, stride, ones, kind, np.nan)
    )
