"""What a user can ask of a conversion."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.preprocessing import LAYOUTS, PRESETS, Preprocessing

POLICIES = ("absorb", "nearest", "ceil", "mse")
IO_MODES = ("pin", "absorb")
CONVENTIONS = ("guide", "int-per-real")
ACTIVATION_ORDERS = ("mac", "after-clamp")
ROUNDINGS = (
    "half-even", "half-up", "half-away", "half-to-zero", "half-dpu", "floor", "ceil", "up", "down",
)  # fmt: skip
EMITTED = ("qdq", "sim")
LEGALISE = ("off", "exact", "all")
RANGES = ("auto", "minmax", "percentile", "mse", "kl", "xilinx")
RANDOM = "random"
"""What ``calibrate`` is for random inputs."""

_SAMPLES = 4
_MOST_MACS = 16 * 10**9
"""Multiplications that samples may take together where their number is left open."""
_SIMULATED = {"rounding": ROUNDINGS, "activation_order": ACTIVATION_ORDERS}
_CHOICES = {
    "policy": POLICIES,
    "io": IO_MODES,
    "convention": CONVENTIONS,
    "legalise": LEGALISE,
    "ranges": RANGES,
    **_SIMULATED,
}


def require_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Sees to it that an option has a value that it can have.

    Raises:
        UsageError: if it has not.
    """
    if value not in allowed:
        raise UsageError(
            Diagnostic(
                "DLA426",
                "option-value",
                f"{name} cannot be {value!r}",
                help=f"choose one of {', '.join(allowed)}",
            )
        )


@dataclass(frozen=True)
class Hardware:
    """The hardware that converted files are run on, as far as its guide leaves it open.

    Attributes:
        rounding: how it rounds, see `dlaconv.ir.rounding.Rounding`.
        activation_order: ``mac`` (before the rounding) or ``after-clamp``.
        target: the description that the files were made with; the built-in ACCESS one if None.

    Raises:
        UsageError: if it cannot round or activate like this.
    """

    rounding: str = "half-even"
    activation_order: str = "mac"
    target: str | Path | None = None

    def __post_init__(self) -> None:
        for name, allowed in _SIMULATED.items():
            require_choice(name, getattr(self, name), allowed)

    @property
    def order(self) -> Literal["mac", "after-clamp"]:
        """Where activations act, as the simulator takes it."""
        return "after-clamp" if self.activation_order == "after-clamp" else "mac"


ACCESS = Hardware()
"""What is simulated unless something else is asked for."""


@dataclass(frozen=True)
class Options:
    """Options of a conversion; the command line has one for each.

    Attributes:
        target: a target description other than the built-in ACCESS one.
        policy: ``absorb`` keeps the source's integers; ``nearest``, ``ceil`` and ``mse`` move each
            scale to the nearest, the next larger or the least erroneous one that the hardware has.
        io: ``pin`` gives graph inputs and outputs real units, ``absorb`` the source's integers.
        convention: what a scale in the file means: ``guide`` (real = scale * integer) or
            ``int-per-real`` (integer = real * scale).
        calibrate: sample inputs, for maps that the source does not quantise and those that cannot
            keep their scale: an ``.npz`` or ``.npy``, a folder of pictures, ``"random"``, or any
            iterable of arrays, or of mappings from graph inputs to arrays.
        images: what is done to pictures.
        fold_preprocess: puts that, but for resize and crop, into the first layer, so that the
            network takes pixels of 0..255; samples are pixels then.
        border_channel: gives the network one more channel for that, of a constant, where its first
            layer pads with zeros that stand for other pixels than the hardware's.
        ranges: how much of what the calibration data show a map covers: ``minmax`` all of it,
            ``percentile`` 99.99 %, ``mse`` and ``kl`` what loses least, ``xilinx`` what CHaiDNN's
            XportDNN takes; ``auto`` chooses. Maps that share their step with others may still clip,
            but for ``policy="ceil"``.
        qconfig: a YAML file with ranges of single maps and roundings of single layers' weights, see
            ``schemas/qconfig.schema.json``.
        calibration_cache: keeps what was seen on the data, so that converting the same network
            with other options does not run it again.
        optimise: how long better scales are searched for by the error of the network's output: 0
            not at all, 1 for seconds, 2 for minutes.
        shapes: shapes of graph inputs that the source leaves open.
        legalise: which rewrites make operators fit the hardware: ``off``, ``exact`` ones, which
            change no integer of a quantised network, or ``all``, approximate ones too.
        pad_outputs: pads the channels of graph outputs like those of all other maps.
        partition: True gives what the hardware cannot run to the host, in files of its own; None
            gives it a Softmax, ArgMax or Sigmoid at the end, and of what rearranges inputs and
            outputs that which the hardware cannot run; False nothing.
        allow_violations: writes the file even if it breaks a hardware rule.
        verify: compares the result with the source on sample inputs.
        verify_with: runs the source itself, too, and compares stage IMPORTED with it; the name of
            one of the frontend's references, such as ``tensorflow``.
        samples: number of sample inputs for that; None for 4, or fewer if these take more than
            16e9 multiplications.
        seed: seed of random sample inputs.
        rounding: how the hardware rounds, see `dlaconv.ir.rounding.Rounding`.
        activation_order: ``mac`` (before the rounding) or ``after-clamp``.
        unsigned_maps: the hardware keeps 8 bits of maps that are never negative.
        dump_stages: folder for the model after every pass.
        emit: what else is written, beside the output: ``qdq`` for a twin in standard ONNX with
            QuantizeLinear and DequantizeLinear, ``sim`` for the bit-true simulation as a graph.
        html: where the report goes as a page, with charts.

    Raises:
        UsageError: if an option has a value that it cannot have.
    """

    target: str | Path | None = None
    policy: str = "absorb"
    io: str = "pin"
    convention: str = "guide"
    calibrate: str | Path | Iterable[Any] | None = None
    images: Preprocessing = field(default_factory=Preprocessing)
    fold_preprocess: bool = False
    border_channel: bool = False
    ranges: str = "auto"
    qconfig: str | Path | None = None
    calibration_cache: Path | None = None
    optimise: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    legalise: str = "exact"
    pad_outputs: bool = False
    partition: bool | None = None
    allow_violations: bool = False
    verify: bool = True
    verify_with: str | None = None
    samples: int | None = None
    seed: int = 0
    rounding: str = "half-even"
    activation_order: str = "mac"
    unsigned_maps: bool = False
    dump_stages: Path | None = None
    emit: Collection[str] = ()
    html: Path | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            require_choice(name, getattr(self, name), allowed)
        require_choice("optimise", str(self.optimise), ("0", "1", "2"))
        for kind in self.emit:
            require_choice("emit", kind, EMITTED)
        if self.images.preset is not None:
            require_choice("preset", self.images.preset, PRESETS)
        if self.images.layout is not None:
            require_choice("layout", self.images.layout, LAYOUTS)

    def compared_samples(self, macs: int) -> int:
        """How many samples a network of so many multiplications is compared on."""
        if self.samples is not None:
            return self.samples
        return max(1, min(_SAMPLES, _MOST_MACS // max(macs, 1)))

    @property
    def hardware(self) -> Hardware:
        """The hardware that the conversion is for."""
        return Hardware(self.rounding, self.activation_order, self.target)

    @property
    def files(self) -> list[Path]:
        """The files that the options name, to be read."""
        calibrate = self.calibrate
        named = isinstance(calibrate, str | Path) and calibrate != RANDOM
        given = [self.target, self.qconfig, calibrate if named else None]
        return [Path(path) for path in given if path is not None]  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values, for the report."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["html"]  # it says nothing about the conversion
        for name in ("target", "qconfig", "calibration_cache", "dump_stages"):
            values[name] = str(values[name]) if values[name] else None
        given = self.calibrate
        if given is not None:
            known = isinstance(given, str | Path)
            values["calibrate"] = str(given) if known else type(given).__name__
        values["images"] = self.images.as_json()
        values["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        values["emit"] = [kind for kind in EMITTED if kind in self.emit]
        return values
