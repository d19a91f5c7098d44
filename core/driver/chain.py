"""Running a network that was cut: host parts in onnxruntime, accelerator parts bit by bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Location
from dlaconv.errors import UnreadableError
from dlaconv.files import require_file

if TYPE_CHECKING:
    import numpy as np

    from dlaconv.options import Hardware
    from dlaconv.preprocessing import Preprocessing

_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Link:
    """One part of a network that was cut.

    Attributes:
        file: its ONNX file.
        host: True if the host runs it.
        inputs: names of the tensors that it takes.
        outputs: names of the tensors that it returns.
    """

    file: Path
    host: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Chain:
    """The parts of a network, in the order in which they run.

    Attributes:
        links: the parts.
        outputs: the graph outputs of the network.
    """

    links: tuple[Link, ...]
    outputs: tuple[str, ...]

    @property
    def handed_on(self) -> set[str]:
        """What later parts for the accelerator are fed with, or the host's parts before them."""
        found: set[str] = set()
        for link in reversed(self.links):
            if not link.host or found.intersection(link.outputs):
                found.update(link.inputs)
        return found


def read_chain(report: Path) -> Chain:
    """Reads how the parts of a network hang together from the report of its conversion.

    Raises:
        UnreadableError: if the file is no such report, or a part is missing.
    """
    try:
        if report.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large for a report")
        document = json.loads(report.read_text("utf-8"))
        links = tuple(_link(report.parent, item) for item in document["parts"])
        chain = Chain(links, _names(document["graph"]["outputs"]))
        _require_order(chain, _names(document["graph"]["inputs"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise no_report(report, f"{type(error).__name__}: {error}") from error
    for link in links:
        require_file(link.file)
    return chain


def run_chain(
    report: Path,
    inputs: Mapping[str, np.ndarray] | Path,
    hardware: Hardware,
    images: Preprocessing,
) -> dict[str, np.ndarray]:
    """Runs all parts of a network; see `dlaconv.run_chain`."""
    from dlaconv.driver.running import ChainRunner, stacked
    from dlaconv.driver.samples import given_samples

    runner = ChainRunner(read_chain(report), report, hardware)
    samples = given_samples(inputs, runner.shapes, images, runner.all_facts, report)
    return stacked(map(runner.run, samples))


def no_report(file: Path, why: str) -> UnreadableError:
    """The error of a file that is not the report of a conversion, or not that of its parts."""
    return UnreadableError(
        Diagnostic(
            "DLA417",
            "no-report",
            f"not the report of a conversion: {why}",
            location=Location(file=str(file)),
            help="give the .json that a conversion wrote, with its parts beside it",
        )
    )


def _link(folder: Path, item: Any) -> Link:
    name = item["file"]
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is no file beside the report")
    if item["side"] not in {"host", "accelerator"}:
        raise ValueError(f"nobody is called {item['side']!r}")
    host = item["side"] == "host"
    return Link(folder / name, host, _names(item["inputs"]), _names(item["outputs"]))


def _names(listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ValueError("names of tensors are a list of strings")
    return tuple(listed)


def _require_order(chain: Chain, inputs: tuple[str, ...]) -> None:
    known = set(inputs)
    for link in chain.links:
        if missing := set(link.inputs) - known:
            raise ValueError(f"nothing makes {', '.join(sorted(missing))} before {link.file.name}")
        known |= set(link.outputs)
    if missing := set(chain.outputs) - known:
        raise ValueError(f"nothing makes {', '.join(sorted(missing))}")
