"""Stages and passes: what runs in which order, and what must hold after each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import DlaconvError, InternalError
from dlaconv.ir import dialect
from dlaconv.ir.stages import Stage, broken_invariants
from dlaconv.ir.target import Target


@dataclass(frozen=True)
class Rewrite:
    """One change that a pass made and that the report lists.

    Attributes:
        name: the pass or rewrite.
        layer: the source layer concerned.
        detail: what was done, in words.
        exact: True if no integer changes by it.
    """

    name: str
    layer: str
    detail: str
    exact: bool = True


@dataclass
class Context:
    """What passes know besides the model, and where they leave what they found.

    Attributes:
        target: the hardware.
        diagnostics: findings for the user.
        shapes: shapes asked for with ``--set-shape``, by graph input.
        policy: ``absorb`` keeps the source's integers, ``nearest`` snaps each scale.
        io: ``pin`` keeps graph inputs and outputs in real units of a power of two, ``absorb``
            keeps the source's integers there too.
        convention: ``guide`` (real = scale * integer) or ``int-per-real``.
        calibration: stacked samples by graph input, None without ``--calibrate``.
        rewrites: what the report lists.
    """

    target: Target
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    policy: str = "absorb"
    io: str = "pin"
    convention: str = "guide"
    calibration: Mapping[str, np.ndarray] | None = None
    rewrites: list[Rewrite] = field(default_factory=list)


@dataclass(frozen=True)
class Pass:
    """A named step on a model.

    Attributes:
        name: what error messages and dumps call it.
        apply: changes the model in place.
        tolerance: largest difference of the model's outputs, relative to their largest
            magnitude, that the pass may cause; None if it changes values on purpose.
    """

    name: str
    apply: Callable[[ir.Model, Context], None]
    tolerance: float | None = 0.0

    def __call__(self, model: ir.Model, context: Context) -> None:
        """Runs the pass; anything that is not the user's fault becomes an `InternalError`."""
        try:
            self.apply(model, context)
        except (DlaconvError, MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise InternalError(f"{type(error).__name__}: {error}", pass_name=self.name) from error


def ir_pass(
    *, tolerance: float | None = 0.0
) -> Callable[[Callable[[ir.Model, Context], None]], Pass]:
    """Makes a pass of a function, named after it; see `Pass` for ``tolerance``."""

    def wrap(function: Callable[[ir.Model, Context], None]) -> Pass:
        return Pass(function.__name__, function, tolerance)

    return wrap


@dataclass
class Pipeline:
    """Runs passes stage by stage, and checks the stage's invariants at the end of each.

    Attributes:
        stages: the passes that lead *to* each stage, in order.
        dump: folder for ``NN-pass.onnx``, one per pass, None for no dumps.
        timings: seconds per pass, filled while running.
    """

    stages: Sequence[tuple[Stage, Sequence[Pass]]]
    dump: Path | None = None
    timings: dict[str, float] = field(default_factory=dict)

    def run(self, model: ir.Model, context: Context) -> None:
        """Takes a model of stage IMPORTED through every stage.

        Raises:
            InternalError: if a pass breaks an invariant.
            ConversionError: if the network cannot be brought into a stage's form.
        """
        self._dump(model, "imported")
        reached = Stage.IMPORTED
        for stage, passes in self.stages:
            for step in passes:
                start = time.perf_counter()
                step(model, context)
                dialect.install(model)
                self._verify(model, reached, step.name)
                self.timings[step.name] = time.perf_counter() - start
                self._dump(model, step.name)
            last = passes[-1].name if passes else stage.value
            self._verify(model, stage, last)
            reached = stage

    def _verify(self, model: ir.Model, stage: Stage, name: str) -> None:
        for node, problem in broken_invariants(model, stage):
            raise InternalError(f"{problem} at stage {stage.value}", pass_name=name, node=node)

    def _dump(self, model: ir.Model, name: str) -> None:
        if self.dump is None:
            return
        self.dump.mkdir(parents=True, exist_ok=True)
        dialect.install(model)
        number = len(self.timings)
        ir.save(model, self.dump / f"{number:02d}-{name}.onnx")


def with_extra(
    stages: Sequence[tuple[Stage, Sequence[Pass]]],
    extra: Callable[[Stage], Iterable[Pass]],
) -> list[tuple[Stage, Sequence[Pass]]]:
    """Appends passes (of plugins) at the end of each stage."""
    return [(stage, [*passes, *extra(stage)]) for stage, passes in stages]
