"""CHaiDNN's arithmetic in integers, written from its rules and not from dlaconv's graphs.

Of dlaconv only the text of the prototxt is used; formats, weights and maps are worked out here, in
int64 (products in float64, where sums below 2^53 are exact).
"""

import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dlaconv.frontends.caffe.network import layers_of
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import parse_text


class Stored(NamedTuple):
    """A map: integers, and what one of them is worth; real values where that is None."""

    q: np.ndarray
    step: Fraction | None


def layers_in(path):
    text = Path(path).read_text("utf-8")
    net, found = parse_text(text, caffe_schema(), "NetParameter", "", ignore_unknown=True)
    return layers_of(net, caffe_schema(), "", found)


def away(x):
    """The nearest integers, halves away from zero."""
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def clipped(q, bits):
    return np.clip(q, -(1 << (bits - 1)), (1 << (bits - 1)) - 1).astype(np.int64)


class Formats:
    """A layer's precision_param."""

    def __init__(self, layer):
        self.message = layer.param("precision_param")
        self.xilinx = self.message.text("quant_type") == "Xilinx"
        self.th_params = np.array(self.message.numbers("th_params"))

    def bits(self, end):
        return self.message.integer("bw_params" if end == "params" else f"bw_layer_{end}")

    def fl(self, end):
        return self.message.integer("fl_params" if end == "params" else f"fl_layer_{end}")

    def th(self, end):
        return self.message.number(f"th_layer_{end}")

    def step(self, end):
        if self.xilinx:
            return Fraction(self.th(end)) / ((1 << (self.bits(end) - 1)) - 1)
        return Fraction(2) ** -self.fl(end)

    def reals(self, x, end):
        """The integers of real values: images, weights and biases."""
        step = float(self.step(end))
        if self.xilinx:
            x = np.clip(x, -self.th(end), self.th(end))
        return clipped(away(x / step), self.bits(end))


class IntegerModel:
    """Runs a prototxt with ``precision_param`` on integers.

    ``blobs`` has the arrays of each layer with weights. ``maps`` holds every blob after a run. With
    ``exact`` the multipliers of Xilinx mode are not rounded to 22 bits. ``even`` and ``least`` are
    for other hardware: how it rounds, and how many bits it has at least where it saturates.
    """

    def __init__(self, path, blobs, *, exact=False, even=False, least=0):
        self.layers, self.blobs, self.maps = layers_in(path), blobs, {}
        self.exact, self.even, self.least = exact, even, least

    def run(self, x, found=None):
        """Every blob; with real values of blobs ``found`` each layer reads those.

        Then ``differing`` says of each how many integers are not the model's, and by how much.
        """
        self.differing, last = {}, {top: layer for layer in self.layers for top in layer.tops}
        for layer in self.layers:
            if layer.type == "Input":
                self.maps[layer.tops[0]] = Stored(np.asarray(x, np.float64), None)
                continue
            method = getattr(self, layer.type.lower(), None)
            if method is None:
                break
            result = method(layer, [self.maps[name] for name in layer.bottoms])
            if result is None:
                break
            self.maps.update(dict.fromkeys(layer.tops, result))
            for top in layer.tops:
                if found is not None and top in found and last[top] is layer:
                    q = np.rint(found[top].astype(np.float64) / float(result.step)).astype(np.int64)
                    off = np.abs(q - result.q)
                    self.differing[top] = int((off > 0).sum()), int(off.max())
                    self.maps[top] = result._replace(q=q)
        return self.maps

    def read(self, layer, x):
        """A bottom in the format that the layer reads."""
        formats = Formats(layer)
        if x.step is None:
            return formats.reals(x.q, "in")
        step = formats.step("in")
        if step == x.step:
            return self.clipped(x.q, formats.bits("in"))
        return self.clipped(self.times(x.q, x.step / step), formats.bits("in"))

    def times(self, q, ratio):
        """Integers times a ratio as integers."""
        if ratio.numerator.bit_length() + ratio.denominator.bit_length() > 40:
            return self.rounded(q * float(ratio))
        high, low = ratio.numerator, ratio.denominator
        floor = q * high // low
        twice = 2 * (q * high - floor * low)
        tie = floor % 2 == 1 if self.even else q > 0
        return floor + ((twice > low) | ((twice == low) & tie))

    def clipped(self, q, bits):
        return clipped(q, max(bits, self.least))

    def rounded(self, x):
        return np.rint(x) if self.even else away(x)

    def convolution(self, layer, bottoms):
        param, formats = layer.param("convolution_param"), Formats(layer)
        kernel = _pair(param, "kernel", 0)
        stride, pad = _pair(param, "stride", 1), _pair(param, "pad", 0)
        w, b = [*self.blobs[layer.name], np.zeros(param.integer("num_output"))][:2]
        q, groups = self.read(layer, bottoms[0]), param.integer("group")
        windows = _windows(q, kernel, stride, pad, 0)
        integers = self.weights(formats, w)
        parts = []
        for index in range(groups):
            rows = integers.reshape(groups, -1, *w.shape[1:])[index]
            channels = windows.shape[1] // groups
            part = windows[:, index * channels : (index + 1) * channels]
            parts.append(_product(part, rows))
        return self.stored(formats, np.concatenate(parts, 1), w, b)

    def innerproduct(self, layer, bottoms):
        formats, (w, b) = Formats(layer), self.blobs[layer.name]
        if not formats.message.has("bw_params"):
            return None  # in floating point
        q = self.read(layer, bottoms[0]).reshape(len(bottoms[0].q), -1)
        sums = q.astype(np.float64) @ self.weights(formats, w).astype(np.float64).T
        return self.stored(formats, sums.astype(np.int64), w, b)

    def weights(self, formats, w):
        if not formats.xilinx:
            return formats.reals(w.astype(np.float64), "params")
        step = self.weight_steps(formats, w).astype(np.float32)
        rows = (-1,) + (1,) * (w.ndim - 1)
        top = (1 << (formats.bits("params") - 1)) - 1
        return np.clip(away(w / step.reshape(rows)), -top, top).astype(np.int64)

    def weight_steps(self, formats, w):
        th = formats.th_params
        if not th.size:
            th = np.abs(w).reshape(len(w), -1).max(1)
        return th / ((1 << (formats.bits("params") - 1)) - 1)

    def stored(self, formats, sums, w, b):
        """The accumulator and the bias as the stored result."""
        bits, shape = formats.bits("out"), (1, -1) + (1,) * (sums.ndim - 2)
        step = formats.step("out")
        q = formats.reals(np.asarray(b, np.float32), "out")
        if formats.xilinx:
            gain = self.weight_steps(formats, w) * float(formats.step("in") / step)
            if self.exact:
                real = sums * gain.reshape(shape) + q.reshape(shape)
                return Stored(self.clipped(self.rounded(real), bits), step)
            multiplier = away(gain * (1 << 22)).astype(np.int64)
            sums = sums * multiplier.reshape(shape) + (q.reshape(shape) << 22)
            return Stored(self.clipped(self.times(sums, Fraction(1, 1 << 22)), bits), step)
        shift = formats.fl("in") + formats.fl("params") - formats.fl("out")
        held = clipped(q << shift, 16)
        sums = sums + held.reshape(shape)
        return Stored(self.clipped(self.times(sums, Fraction(2) ** -shift), bits), step)

    def relu(self, layer, bottoms):
        return bottoms[0]._replace(q=np.maximum(bottoms[0].q, 0))

    def pooling(self, layer, bottoms):
        param = layer.param("pooling_param")
        kernel = _pair(param, "kernel", 0)
        stride, pad = _pair(param, "stride", 1), _pair(param, "pad", 0)
        x = bottoms[0]
        ends = []
        for size, k, s, p in zip(x.q.shape[2:], kernel, stride, pad, strict=True):
            count = math.ceil((size + 2 * p - k) / s) + 1
            if any(pad) and (count - 1) * s >= size + p:
                count -= 1
            ends.append(max(0, (count - 1) * s + k - size - p))
        if param.text("pool") == "MAX":
            return x._replace(q=_windows(x.q, kernel, stride, pad, -(1 << 40), ends).max((4, 5)))
        assert ends == list(pad)
        formats = Formats(layer)
        said = layer.message.has("precision_param")
        q = self.read(layer, x) if said else x.q
        sums, count = _windows(q, kernel, stride, pad, 0).sum((4, 5)), kernel[0] * kernel[1]
        step, bits = (formats.step("out"), formats.bits("out")) if said else (x.step, 8)
        ratio = (formats.step("in") / step if said else Fraction(1)) / count
        return Stored(self.clipped(self.times(sums, ratio), bits), step)

    def concat(self, layer, bottoms):
        assert len({x.step for x in bottoms}) == 1
        return bottoms[0]._replace(q=np.concatenate([x.q for x in bottoms], 1))

    def eltwise(self, layer, bottoms):
        formats = Formats(layer)
        total = sum(self.read(layer, x) for x in bottoms)
        ratio = formats.step("in") / formats.step("out")
        return Stored(
            self.clipped(self.times(total, ratio), formats.bits("out")), formats.step("out")
        )

    def dropout(self, layer, bottoms):
        return bottoms[0]


def _pair(param, name, default):
    found = param.integers("kernel_size" if name == "kernel" else name)
    return (found * 2)[:2] if found else [default] * 2


def _windows(q, kernel, stride, pad, fill, ends=None):
    """``[N, C, OH, OW, kh, kw]``."""
    ends = pad if ends is None else ends
    edges = list(zip(pad, ends, strict=True))
    padded = np.pad(q, [(0, 0), (0, 0), *edges], constant_values=fill)
    found = np.lib.stride_tricks.sliding_window_view(padded, tuple(kernel), (2, 3))
    return found[:, :, :: stride[0], :: stride[1]]


def _product(windows, rows):
    n, c, oh, ow, kh, kw = windows.shape
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, c * kh * kw)
    found = columns.astype(np.float64) @ rows.reshape(len(rows), -1).astype(np.float64).T
    return found.astype(np.int64).reshape(n, oh, ow, len(rows)).transpose(0, 3, 1, 2)
