"""Seeded random QONNX graphs that meet everything the QONNX operators can say.

Every value in front of a convolution, sum or average lies on a power-of-two grid, so those are
exact in any order; single quantisers have float scales, per channel too, and zero points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIZE, SAMPLES = 4, 6, 3
CURRENT = "qonnx.custom_op.general"
DOMAINS = (CURRENT, CURRENT, "onnx.brevitas", "finn.custom_op.general", "finn", "qonnx", "")
MODES = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


@dataclass(frozen=True)
class Grid:
    """What is known of a value: per-tensor power-of-two step and bits, 0 bits if not that."""

    step: float = 0.0
    bits: int = 0
    signed: bool = True


class RandomGraph:
    """One graph ``[1, 4, 6, 6] -> several outputs``."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: dict[str, Grid] = {"x": Grid()}
        self.ends: list[str] = []
        self.domain = str(self.rng.choice(DOMAINS))
        steps = (self.quant, self.bipolar, self.relu, self.add, self.conv, self.trunc)
        steps += (self.average, self.pool_shape)
        for step in (self.power_quant, self.conv, self.trunc, self.average):
            step()
        for _ in range(8):
            steps[int(self.rng.integers(len(steps)))]()

    def model(self) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output]
        outputs = [name for name in made if name not in read]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", int(self.rng.integers(11, 21)))]
        if self.domain and self.rng.random() < 0.7:  # files often leave the domain out
            opsets.append(helper.make_opsetid(self.domain, 1 if self.rng.random() < 0.3 else 2))
        if self.rng.random() < 0.3:  # the dynamo exporter has the custom domain first
            opsets.reverse()
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def samples(self) -> dict[str, np.ndarray]:
        """Inputs on a coarse grid in part, so that ties are met."""
        shape = (SAMPLES, CHANNELS, SIZE, SIZE)
        x = self.rng.normal(0, 2, shape)
        return {"x": np.where(self.rng.random(shape) < 0.5, np.rint(x * 8) / 8, x).astype("f4")}

    # Small parts

    def any_of(self, *options: object) -> object:
        return options[int(self.rng.integers(len(options)))]

    def constant(self, array: np.ndarray | float, dtype: str = "f4") -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def node(self, op_type: str, inputs: list[str], grid: Grid, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        domain = attributes.pop("domain", "")
        node = helper.make_node(op_type, inputs, [name], f"n{len(self.nodes)}", **attributes)
        node.domain = str(domain)
        self.nodes.append(node)
        self.values[name] = grid
        return name

    def pick(self, *, grid: bool = False) -> str:
        found = [name for name, known in self.values.items() if known.bits or not grid]
        return str(self.any_of(*found))

    def scale(self, axes: int) -> np.ndarray:
        """Per tensor as [] or [1], or per channel on axis 1 of four; float or power of two."""
        shape = self.any_of((), (1,), (1, CHANNELS, 1, 1)) if axes == 4 else ()
        exponents = self.rng.integers(-5, 0, shape)
        if self.rng.random() < 0.5:
            return np.asarray(2.0**exponents, np.float32)
        return np.asarray(2.0**exponents * self.rng.uniform(1, 2, shape), np.float32)

    def mode(self) -> dict[str, str]:
        mode = str(self.any_of(*MODES))
        return {"rounding_mode": mode.lower() if self.rng.random() < 0.3 else mode}

    def bits_constant(self, bits: int) -> str:
        return self.constant(bits, "i4" if self.rng.random() < 0.2 else "f4")

    # Operators

    def quant(self) -> None:
        """Any quantiser at all."""
        signed, narrow = bool(self.rng.random() < 0.6), bool(self.rng.random() < 0.4)
        bits = int(self.any_of(1, 2, 3, 4, 5, 7, 8, 8, 8, 16, 24, 32))
        narrow &= bits > 1
        scale = self.scale(4)
        zero = np.zeros(())
        if 1 < bits <= 16 and self.rng.random() < 0.5:
            shape = self.any_of((), (1,), scale.shape)
            zero = self.rng.integers(-3, 4, shape)
        domain = self.domain
        op_type = str(self.any_of("Quant", "IntQuant"))
        inputs = [
            self.pick(),
            self.constant(scale),
            self.constant(zero),
            self.bits_constant(bits),
        ]
        flags = {"signed": int(signed), "narrow": int(narrow), **self.mode()}
        if self.rng.random() < 0.1:
            del flags["rounding_mode"]
        self.node(op_type, inputs, Grid(), domain=domain, **flags)

    def power_quant(self) -> None:
        """A symmetric quantiser to a power-of-two grid."""
        signed, bits = bool(self.rng.random() < 0.6), int(self.any_of(4, 6, 8))
        step = 2.0 ** int(self.rng.integers(-5, 0))
        inputs = [self.pick(), self.constant(step), self.constant(0), self.bits_constant(bits)]
        flags = {"signed": int(signed), "narrow": int(self.rng.random() < 0.3), **self.mode()}
        self.node("Quant", inputs, Grid(step, bits, signed), domain=self.domain, **flags)

    def bipolar(self) -> None:
        scale = self.constant(self.scale(4))
        self.node("BipolarQuant", [self.pick(), scale], Grid(), domain=self.domain)

    def relu(self) -> None:
        name = self.pick()
        self.node("Relu", [name], self.values[name])

    def add(self) -> None:
        self.power_quant()
        self.node("Add", [self.pick(grid=True), self.pick(grid=True)], Grid())
        self.power_quant()

    def pool_shape(self) -> None:
        name = self.pick()
        more = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
        self.node("MaxPool", [name], self.values[name], **more)

    def conv(self) -> None:
        """Quantised weights, per tensor or channel, narrow or not, with any kind of bias."""
        self.power_quant()
        x = self.pick(grid=True)
        shape = (CHANNELS, CHANNELS, 3, 3)
        per = self.any_of((), (CHANNELS, 1, 1, 1))
        scale = np.asarray(2.0 ** self.rng.integers(-6, -3, per), np.float32)
        weight = self.constant(self.rng.normal(0, 0.4, shape))
        bits = int(self.any_of(2, 4, 8))
        flags = {"signed": 1, "narrow": int(self.rng.random() < 0.7), **self.mode()}
        zero = float(self.any_of(0, 0, 0, 3, -2, 0.5))  # between two integers, too
        inputs = [weight, self.constant(scale), self.constant(zero), self.bits_constant(bits)]
        inputs = [x, self.node("Quant", inputs, Grid(), domain=self.domain, **flags)]
        del self.values[inputs[1]]
        if self.rng.random() < 0.6:
            bias = self.constant(self.rng.normal(0, 0.5, CHANNELS))
            step = scale.reshape(-1) * np.float32(self.values[x].step)
            more = [bias, self.constant(step), self.constant(0), self.bits_constant(16)]
            flags = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
            inputs.append(self.node("Quant", more, Grid(), domain=self.domain, **flags))
            del self.values[inputs[2]]
        self.node("Conv", inputs, Grid(), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        self.power_quant()

    def trunc(self) -> None:
        """Trunc of either version straight on a grid."""
        self.power_quant()
        name = self.pick(grid=True)
        self.trunc_of(name, self.values[name], 1)

    def average(self) -> None:
        """Brevitas' average pools: AveragePool -> Trunc, before 0.12 with a Mul in between."""
        self.power_quant()
        name = self.pick(grid=True)
        grid = self.values[name]
        pooled = self.node("AveragePool", [name], Grid(), kernel_shape=[2, 2], strides=[2, 2])
        del self.values[pooled]
        if self.rng.random() < 0.5:
            area = self.constant(4.0)
            pooled = self.node("Mul", [pooled, area], Grid())
            del self.values[pooled]
            self.trunc_of(pooled, Grid(grid.step, grid.bits + 2, grid.signed), 4, version=1)
        else:
            finer = Grid(grid.step / 4, grid.bits + 2, grid.signed)
            self.trunc_of(pooled, finer, 4, version=2)

    def trunc_of(self, name: str, grid: Grid, area: int, version: int = 0) -> None:
        # Bit widths in float32: qonnx's Trunc computes in float64 with integer ones.
        drop = int(self.rng.integers(1, 4))
        out_bits = max(grid.bits - drop, 1)
        drop = grid.bits - out_bits
        inputs = [name, self.constant(grid.step), self.constant(0), self.constant(grid.bits)]
        flags: dict[str, object] = dict(self.mode())
        if (version or int(self.any_of(1, 2))) == 2:
            inputs.append(self.constant(grid.step * 2.0**drop))
            flags |= {"signed": int(grid.signed), "narrow": 0}
        inputs.append(self.constant(out_bits))
        result = self.node("Trunc", inputs, Grid(), domain=self.domain, **flags)
        if area > 1:  # of another shape: nothing else reads it
            del self.values[result]
