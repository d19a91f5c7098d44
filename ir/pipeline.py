"""Stages and passes: what runs in which order, and what must hold after each step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostics
from dlaconv.errors import DlaconvError, InternalError
from dlaconv.ir import dialect
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.calibration.observe import Store
from dlaconv.ir.channel_layout import ChannelLayout
from dlaconv.ir.graph import drop_unread
from dlaconv.ir.overrides import Overrides
from dlaconv.ir.records import TensorRecord
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.stages import Stage, broken_invariants
from dlaconv.ir.target import Target

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rewrite:
    """One change that a pass made and that the report lists.

    Attributes:
        name: the pass or rewrite.
        layer: the source layer concerned.
        detail: what was done, in words.
        exact: True if no integer changes by it.
        macs: multiplications that it adds; below 0 if it saves some.
    """

    name: str
    layer: str
    detail: str
    exact: bool = True
    macs: int = 0


@dataclass(frozen=True)
class Reread:
    """A map that the source quantises from a graph input and the hardware from its stored map.

    Attributes:
        source: name of the graph input.
        stored: the stored map in words.
        clipped: True if the stored map's range does not cover the map's own.
    """

    source: str
    stored: str
    clipped: bool


@dataclass
class Context:
    """What passes know besides the model, and where they leave what they found.

    Attributes:
        target: the hardware.
        diagnostics: findings for the user.
        shapes: shapes asked for with ``--set-shape``, by graph input.
        policy: name of a policy of `dlaconv.ir.scales.policy`.
        fixed_point: the source computes in fixed point: steps that are powers of two are kept,
            even if maps of few bits then saturate later on the hardware.
        io: ``pin`` keeps graph inputs and outputs in real units of a power of two, ``absorb``
            keeps the source's integers there too.
        convention: ``guide`` (real = scale * integer) or ``int-per-real``.
        calibration: samples of the graph inputs, None without ``--calibrate``.
        ranges: how much of what data show a map covers, see `dlaconv.ir.calibration.ranges`.
        overrides: what the user wants for single maps and layers.
        store: keeps what was seen on calibration data for the next conversion.
        optimise: how long to search for better steps by the network's output: 0 not at all, 1 for
            seconds, 2 for minutes.
        covers: by name of the unrounded value, the magnitude to cover by every method that
            ``auto`` chooses from.
        observed: some values of maps on calibration data, by name of the unrounded value.
        rounding: how the hardware rounds.
        legalise: which rewrites make operators fit the hardware: ``off``, ``exact`` ones, ``all``.
        pad_outputs: pads the channels of graph outputs, too.
        blocked: why a rewrite that would help a node is impossible, by name of its output.
        seed: seed of the random inputs that stand in for calibration data.
        samples: number of random inputs.
        inputs: the samples that the network is tried on; the scale stage draws some if there are
            none.
        rewrites: what the report lists.
        derived: names of maps that the source does not quantise.
        bounded: those of them whose step is an interval bound, for want of data.
        positive: those of them that the hardware may store without sign.
        sums: names of Concat results that only a weighted sum reads.
        gains: names of layers of ours that only scale: their weights are zeros and one gain.
        centres: of graph inputs that take pixels, by name of the map, what the source calls zero;
            arrays that broadcast against the map.
        uncentred: real biases of layers whose own make up for what weights do at such a centre.
        channel_ratios: what the values of maps were multiplied by, per channel, by name; arrays of
            the map's rank.
        layouts: where the source's channels lie in maps that have more, by name.
        originals: what the source calls maps that have another name.
        multiples: how often maps hold the source's value, where that is not once, by name.
        gain_errors: of layers of ``gains``, the relative error of each output channel's gain.
        clips: least and largest value of maps that saturate where the source clips, by name.
        thresholds: names of layers with weights of whose result only the sign counts.
        signs: names of maps that hold signs, or are saturated on the way to one.
        compensated: names of maps whose bias makes up for the source's rounding mode.
        rereads: maps that requantise what another quantiser of a graph input left, by name.
        records: what became of each tensor, filled by the scale stage.
        gammas: hardware value over real value of each map, filled by the scale stage.
    """

    target: Target
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    policy: str = "absorb"
    fixed_point: bool = False
    io: str = "pin"
    convention: str = "guide"
    calibration: Dataset | None = None
    ranges: str = "auto"
    overrides: Overrides = field(default_factory=Overrides)
    store: Store | None = None
    optimise: int = 1
    covers: dict[str, dict[str, float]] = field(default_factory=dict)
    observed: dict[str, np.ndarray] = field(default_factory=dict)
    rounding: Rounding = Rounding.HALF_EVEN
    legalise: str = "exact"
    pad_outputs: bool = False
    blocked: dict[str, list[str]] = field(default_factory=dict)
    seed: int = 0
    samples: int = 8
    inputs: Dataset | None = None
    rewrites: list[Rewrite] = field(default_factory=list)
    derived: set[str] = field(default_factory=set)
    bounded: list[str] = field(default_factory=list)
    positive: set[str] = field(default_factory=set)
    sums: set[str] = field(default_factory=set)
    gains: set[str] = field(default_factory=set)
    centres: dict[str, np.ndarray] = field(default_factory=dict)
    uncentred: dict[str, np.ndarray] = field(default_factory=dict)
    channel_ratios: dict[str, np.ndarray] = field(default_factory=dict)
    layouts: dict[str, ChannelLayout] = field(default_factory=dict)
    originals: dict[str, str] = field(default_factory=dict)
    multiples: dict[str, float] = field(default_factory=dict)
    gain_errors: dict[str, np.ndarray] = field(default_factory=dict)
    clips: dict[str, tuple[float, float]] = field(default_factory=dict)
    thresholds: set[str] = field(default_factory=set)
    signs: set[str] = field(default_factory=set)
    compensated: set[str] = field(default_factory=set)
    rereads: dict[str, Reread] = field(default_factory=dict)
    records: list[TensorRecord] = field(default_factory=list)
    gammas: dict[str, float] = field(default_factory=dict)

    def branch(self) -> Context:
        """A context that goes on from here by itself; `merge` brings back what it found."""
        found = {item.name: copy(getattr(self, item.name)) for item in fields(self)}
        return Context(**found | {"diagnostics": Diagnostics(self.diagnostics)})

    def merge(self, branch: Context) -> None:
        """Takes over what a branch found; containers stay the same, others may share them."""
        self.diagnostics.extend(branch.diagnostics)
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(branch, item.name)
            if isinstance(mine, dict | set):
                mine.clear()
                mine.update(theirs)
            elif isinstance(mine, list):
                mine[:] = theirs


@dataclass(frozen=True)
class Pass:
    """A named step on a model.

    Attributes:
        name: what error messages and dumps call it.
        apply: changes the model in place; returns False if it has changed nothing.
        tolerance: largest difference of the model's outputs, relative to their largest
            magnitude, that the pass may cause; None if it changes values on purpose.
    """

    name: str
    apply: Callable[[ir.Model, Context], bool | None]
    tolerance: float | None = 0.0

    def __call__(self, model: ir.Model, context: Context) -> bool:
        """Runs the pass; anything that is not the user's fault becomes an `InternalError`.

        Returns:
            False if it says that it has changed nothing.
        """
        try:
            return self.apply(model, context) is not False
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
        timings: seconds per pass (all runs of it), filled while running.
    """

    stages: Sequence[tuple[Stage, Sequence[Pass]]]
    dump: Path | None = None
    timings: dict[str, float] = field(default_factory=dict)
    _dumped: int = 0

    def then(self, stages: Sequence[tuple[Stage, Sequence[Pass]]], folder: str = "") -> Pipeline:
        """A pipeline that goes on with further stages, on the same clock.

        Args:
            stages: the passes that lead to each further stage.
            folder: puts its dumps into a folder inside the first one's.
        """
        dump = self.dump / folder if self.dump is not None and folder else self.dump
        return replace(self, stages=stages, dump=dump)

    def run(self, model: ir.Model, context: Context, reached: Stage = Stage.IMPORTED) -> None:
        """Takes a model through every stage.

        Args:
            model: the model, changed in place.
            context: what passes know.
            reached: the stage that the model has reached before.

        Raises:
            InternalError: if a pass breaks an invariant.
            ConversionError: if the network cannot be brought into a stage's form.
        """
        if reached is Stage.IMPORTED:
            self._dump(model, "imported")
        for stage, passes in self.stages:
            for step in passes:
                start = time.perf_counter()
                _LOG.info("%s", step.name.replace("_", " "))
                if step(model, context):
                    self._verify(model, reached, step.name)
                seconds = time.perf_counter() - start
                self.timings[step.name] = self.timings.get(step.name, 0.0) + seconds
                self._dump(model, step.name)
            last = passes[-1].name if passes else stage.value
            self._verify(model, stage, last)
            reached = stage
        dialect.install(model)

    def _verify(self, model: ir.Model, stage: Stage, name: str) -> None:
        for node, problem in broken_invariants(model, stage):
            raise InternalError(f"{problem} at stage {stage.value}", pass_name=name, node=node)

    def _dump(self, model: ir.Model, name: str) -> None:
        if self.dump is None:
            return
        self.dump.mkdir(parents=True, exist_ok=True)
        copy = model.clone()
        drop_unread(copy.graph)  # onnxruntime warns of each constant that nothing reads
        dialect.install(copy)
        ir.save(copy, self.dump / f"{self._dumped:02d}-{name}.onnx")
        self._dumped += 1


def with_extra(
    stages: Sequence[tuple[Stage, Sequence[Pass]]],
    extra: Callable[[Stage], Iterable[Pass]],
) -> list[tuple[Stage, Sequence[Pass]]]:
    """Appends passes (of plugins) at the end of each stage."""
    return [(stage, [*passes, *extra(stage)]) for stage, passes in stages]
