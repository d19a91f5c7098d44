"""Frontends: readers of one source format each, registered through ``register_frontends``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dlaconv.diagnostics import Diagnostics

if TYPE_CHECKING:  # the command line reads this module, and onnx_ir takes 0.3 s to import
    import numpy as np
    import onnx_ir as ir


@dataclass
class Imported:
    """What a frontend returns: the network at stage IMPORTED, and what it has to say about it.

    Attributes:
        model: standard operators of opset 18 plus ``org.dlaconv`` quantise nodes; it computes
            exactly what the source computes.
        diagnostics: findings; one of severity error stops the conversion.
        notes: facts for the report, such as the source's producer.
        files: further files that the user wants from the frontend, texts by path; the driver
            writes them with all others, if the conversion succeeds.
        fixed_point: the source computes in fixed point: its steps that are powers of two are the
            formats of its hardware, which the default scale policy keeps.
    """

    model: ir.Model
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    notes: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)
    fixed_point: bool = False


class Calibration(Protocol):
    """The user's calibration data, for frontends that choose formats by them.

    Attributes:
        ranges: the method that the user asks for, see `dlaconv.ir.calibration.ranges`.
    """

    ranges: str

    def reaches(self, model: ir.Model, names: Sequence[str], largest: int) -> dict[str, float]:
        """How far the integers of maps should reach, by the name of the map.

        Args:
            model: a network with the inputs of the source.
            names: values of it.
            largest: the largest integer.

        Raises:
            UserError: if the data cannot be read, or do not fit the network.
        """


GIVEN = frozenset({"calibration", "layers", "read_back", "shapes"})
"""Parameters that a frontend's ``load`` receives if it has them.

``calibration`` is a `Calibration`, or None if the user has none;
``layers`` are the handlers that plugins give through ``register_layers``, by operator;
``read_back`` reads a file of the accelerator, see `dlaconv.driver.fixed_point_source.read_back`;
``shapes`` are those of graph inputs that the user gives, for sources whose layers depend on them.
"""


def never(path: Path) -> bool:
    """The sniffer of a frontend that `dlaconv convert` does not choose by itself."""
    return path is None


@dataclass(frozen=True)
class Frontend:
    """A source format.

    Attributes:
        name: short and lower case; ``dlaconv from-<name>`` becomes its command.
        summary: one line for ``--help``.
        load: reads a file, its first parameter; its annotated parameters become the command's
            arguments and options. Parameters of `GIVEN` become none.
        sniff: says whether a file looks like this format, from its first bytes or its ending.
        references: programs that run sources of this format as they are, by the name that
            ``--verify-with`` takes. Each takes what ``load`` takes, but for parameters of `GIVEN`,
            and ``inputs``, stacked samples in the order of the imported network's inputs; it
            returns stacked results in the order of its outputs.
    """

    name: str
    summary: str
    load: Callable[..., Imported]
    sniff: Callable[[Path], bool] = never
    references: Mapping[str, Callable[..., Sequence[np.ndarray]]] = field(
        default_factory=dict, hash=False
    )
