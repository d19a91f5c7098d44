"""Random SCALED networks for hypothesis, and feeds for them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scaled_net import INT8, UINT8, Net

from dlaconv.ir.formats import ReciprocalDyadic
from dlaconv.ir.layers import Network


def random_feeds(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Full-range integers, with the extremes more often than chance has them."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for source in network.inputs:
        values = rng.integers(source.qmin, source.qmax + 1, source.shape)
        extreme = rng.choice([source.qmin, source.qmax], source.shape)
        feeds[source.name] = np.where(rng.random(source.shape) < 0.2, extreme, values)
    return feeds


@st.composite
def random_networks(draw, max_layers=5):
    """A random SCALED network on [1, C, H, W] maps, ending in a classifier half of the time."""
    grower = _Grower(draw)
    for _ in range(draw(st.integers(1, max_layers))):
        grower.grow()
    if draw(st.booleans()):
        grower.classify()
    return grower.finish()


class _Grower:
    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.net = Net()
        limits = draw(st.sampled_from([INT8, INT8, UINT8]))
        shape = (1, draw(st.integers(1, 4)), draw(st.integers(4, 7)), draw(st.integers(4, 7)))
        self.maps = [self.net.input(shape, draw(st.integers(-7, 0)), limits)]
        self.used = set()

    def finish(self):
        outputs = [x for x in self.maps if x.name not in self.used][-3:]
        return self.net.model(*outputs)

    def grow(self):
        kind = self.draw(
            st.sampled_from(
                [
                    "conv",
                    "conv",
                    "depthwise",
                    "average",
                    "global",
                    "max",
                    "add",
                    "concat",
                    "matmul",
                    "div",
                    "table",
                    "rectify",
                    "sum",
                    "move",
                ]
            )
        )
        getattr(self, kind)()

    def take(self, condition=lambda x: True):
        found = [x for x in self.maps if condition(x)]
        x = self.draw(st.sampled_from(found))
        self.used.add(x.name)
        return x

    def spatial(self):
        return self.take(lambda x: len(x.shape) == 4)

    def add_map(self, x):
        self.maps.append(x)

    def exponent(self, x, spread=3):
        return self.net.exponents[x.name] + self.draw(st.integers(-spread, spread))

    def limits(self):
        return self.draw(st.sampled_from([INT8, INT8, INT8, UINT8, (-7, 7)]))

    def activation(self, channels, rank=4):
        kind = self.draw(st.sampled_from([None, "Relu", "LeakyRelu", "PRelu"]))
        slope = st.sampled_from([0.0, 0.01, 0.1, 0.125, 0.3, 1.0, 26 / 256, 1.7, -0.25])
        if kind == "LeakyRelu":
            return kind, self.draw(slope)
        if kind == "PRelu":
            shape = (channels, *(1,) * (rank - 2))
            return kind, np.array([self.draw(slope) for _ in range(channels)]).reshape(shape)
        return kind

    def weights(self, shape):
        edge = self.draw(st.sampled_from([8, 40, 128]))
        return self.rng.integers(-edge, edge, shape).astype(np.int8)

    def steps(self, w, x, out):
        """Steps that bring the sums to the output's range, on one of the three grids."""
        taps = np.abs(w.astype(float)).reshape(len(w), -1).sum(axis=1)
        unit = 2.0 ** (self.net.exponents[x.name] - out)
        grid = self.draw(st.sampled_from(["2^n/a", "a/2^n", "2^n"]))
        steps = []
        for total in taps:
            target = 2.0 ** self.draw(st.integers(0, 2)) * 2 / (total + 1) / unit
            near = ReciprocalDyadic.nearest(target).step
            if grid == "a/2^n":
                near = 1 / ReciprocalDyadic.nearest(1 / target).step
            elif grid == "2^n":
                near = 2.0 ** np.round(np.log2(target))
            steps.append(near)
        return steps

    def bias(self, channels):
        edge = self.draw(st.sampled_from([0, 300, 32767]))
        return self.rng.integers(-edge, edge + 1, channels) if edge else None

    def window(self, x):
        kernel = tuple(self.draw(st.integers(1, min(3, d))) for d in x.shape[2:])
        pads = tuple(self.draw(st.integers(0, k - 1)) for k in kernel * 2)
        return kernel, {"strides": (self.draw(st.integers(1, 2)),) * 2, "pads": pads}

    def conv(self, depthwise=False):
        x = self.spatial()
        kernel, geometry = self.window(x)
        channels = x.shape[1] if depthwise else self.draw(st.integers(1, 4))
        w = self.weights((channels, 1 if depthwise else x.shape[1], *kernel))
        out = self.exponent(x)
        self.add_map(
            self.net.conv(
                x,
                w,
                self.steps(w, x, out),
                out,
                bias=self.bias(channels),
                group=channels if depthwise else 1,
                activation=self.activation(channels),
                limits=self.limits(),
                **geometry,
            )
        )

    def depthwise(self):
        self.conv(depthwise=True)

    def average(self):
        x = self.spatial()
        kernel, geometry = self.window(x)
        self.add_map(
            self.net.pool(
                "AveragePool",
                x,
                kernel,
                self.exponent(x, 2),
                **geometry,
                activation=self.activation(x.shape[1]),
                limits=self.limits(),
                count_include_pad=self.draw(st.integers(0, 1)),
                ceil_mode=self.draw(st.integers(0, 1)),
            )
        )

    def max(self):
        x = self.spatial()
        kernel, geometry = self.window(x)
        ceil_mode = self.draw(st.integers(0, 1))
        self.add_map(self.net.pool("MaxPool", x, kernel, **geometry, ceil_mode=ceil_mode))

    def global_(self):
        x = self.spatial()
        shape = (*x.shape[:2], 1, 1)
        self.add_map(self.net.unary("GlobalAveragePool", x, self.exponent(x), shape))

    def sum(self):
        x = self.spatial()
        axes = self.draw(st.sampled_from([(1,), (2, 3), (-1,), (1, 2, 3)]))
        axes = tuple(axis % 4 for axis in axes)
        self.add_map(self.net.reduce_sum(x, axes, self.exponent(x)))

    def same_shape(self, x):
        return self.take(lambda y: tuple(y.shape) == tuple(x.shape))

    def add(self):
        a = self.take()
        b = self.same_shape(a)
        channels, rank = a.shape[1], len(a.shape)
        self.add_map(
            self.net.binary(
                "Add",
                a,
                b,
                self.exponent(a),
                activation=self.activation(channels, rank),
                limits=self.limits(),
            )
        )

    def div(self):
        a = self.spatial()
        b = self.same_shape(a)
        out = self.net.exponents[a.name] - self.net.exponents[b.name]
        out += self.draw(st.integers(-8, 1))
        self.add_map(self.net.binary("Div", a, b, out, activation=self.activation(a.shape[1])))

    def concat(self):
        a = self.spatial()
        fits = [
            x for x in self.maps
            if len(x.shape) == 4 and tuple(x.shape[2:]) == tuple(a.shape[2:])
            and self.net.exponents[x.name] == self.net.exponents[a.name]
        ]  # fmt: skip
        b = self.draw(st.sampled_from(fits))
        self.used.add(b.name)
        shape = (1, a.shape[1] + b.shape[1], *a.shape[2:])
        self.add_map(self.net.moved("Concat", [a, b], shape, axis=1))

    def matmul(self):
        a = self.spatial()
        b = self.same_shape(a)
        shape = (*b.shape[:2], b.shape[3], b.shape[2])
        b = self.net.moved("Transpose", [b], shape, perm=(0, 1, 3, 2))
        out = self.net.exponents[a.name] + self.net.exponents[b.name] + self.draw(st.integers(4, 9))
        self.add_map(self.net.binary("MatMul", a, b, out, activation=self.activation(a.shape[1])))

    def table(self):
        x = self.take()
        op_type = self.draw(st.sampled_from(["Tanh", "Sigmoid", "HardSwish"]))
        activation = self.draw(st.sampled_from([None, "Relu"]))
        out = self.draw(st.integers(-9, -4))
        self.add_map(self.net.unary(op_type, x, out, activation=activation))

    def rectify(self):
        x = self.spatial()
        activation = self.activation(x.shape[1]) or "Relu"
        self.add_map(self.net.rectified(x, activation))

    def move(self):
        x = self.spatial()
        if self.draw(st.booleans()):
            shape = (x.shape[0], x.shape[1], x.shape[3], x.shape[2])
            self.add_map(self.net.moved("Transpose", [x], shape, perm=(0, 1, 3, 2)))
        else:
            shape = (x.shape[0], x.shape[1] * x.shape[2], 1, x.shape[3])
            target = self.net.constant(np.array(shape))
            self.add_map(self.net.moved("Reshape", [x, target], shape))

    def classify(self):
        x = self.spatial()
        size = int(np.prod(x.shape[1:]))
        flat = self.net.moved("Flatten", [x], (1, size), axis=1)
        channels = self.draw(st.integers(1, 5))
        w = self.weights((channels, size))
        out = self.exponent(flat)
        self.add_map(
            self.net.gemm(
                flat,
                w,
                self.steps(w, flat, out),
                out,
                bias=self.bias(channels),
                activation=self.activation(channels, 2),
            )
        )


setattr(_Grower, "global", _Grower.global_)
