"""Files of thresholds as ml-suite's and DECENT's quantisers write them (``--thresholds``).

One JSON object with a list ``network`` of entries: ``name`` of a layer, ``bw_layer_in``,
``bw_layer_out``, ``bw_params``, ``th_layer_in``, ``th_layer_out``, ``th_params`` (one for each
filter, or one for all), and ``sf_...``, the value of one unit of each, which must agree. What the
files say of their own hardware (``scale``, ``prescale_shift``, ``postscale_shift``) is not read.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location, listed
from dlaconv.errors import UnreadableError
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import FilterThresholds, Mode, Precision
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of
from dlaconv.frontends.caffe.precision.limits import MOST_FILTERS, bits_problem, threshold_problem
from dlaconv.ir.formats import Threshold

LARGEST = 1 << 24
"""Bytes of a file; those of ResNet-50 have 3.2 million."""
_MOST = 100
"""Problems of a file that are listed."""
_TOLERANCE = 1e-5
"""Relative distance of ``sf_...`` from the threshold, which some tools keep in float32."""


def read_thresholds(layers: Sequence[Layer], path: Path, found: Diagnostics) -> None:
    """Sets ``precision`` of the layers that a file names.

    Raises:
        UnreadableError: if the file is none of this kind.
    """
    file = str(path)
    entries = _entries(path)
    problems = Diagnostics()
    by_name = _named(entries, file, problems)
    used = set()
    for layer in layers:
        names = [layer.name, *(layer.tops if layer.type == "Input" else ())]
        name = next((name for name in names if name in by_name), None)
        if name is None:
            continue
        used.add(name)
        if layer.type == "Input" or kind_of(layer) is not Kind.NONE:
            layer.precision = _Entry(name, by_name[name], layer, file, problems).precision()
    found.extend(list(problems)[:_MOST])
    _report_unknown([name for name in by_name if name not in used], layers, file, found)
    _report_left([layer for layer in layers if _has_weights(layer)], file, found)


def _entries(path: Path) -> list[Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise UnreadableError(
            Diagnostic(
                "DLA401",
                "unreadable-file",
                f"the thresholds cannot be read: {error.strerror}",
                location=Location(file=str(path)),
                help="give the path of a JSON file that you may read",
            )
        ) from None
    if len(data) > LARGEST:
        raise _unreadable(path, f"it has more than {LARGEST:,} bytes")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _unreadable(path, f"it is no JSON: {why}") from None
    entries = content.get("network") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise _unreadable(path, "it has no list 'network'")
    return entries


def _named(entries: Iterable[Any], file: str, problems: Diagnostics) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            problems.add(_wrong(file, f"network[{index}] is no object with a name"))
        elif name in found:
            problems.add(_wrong(file, f"two entries for {name!r}", name))
        else:
            found[name] = entry
    return found


class _Entry:
    """One entry, for the layer that it names."""

    def __init__(
        self, name: str, values: Mapping[str, Any], layer: Layer, file: str, problems: Diagnostics
    ) -> None:
        self._name, self._values, self._layer = name, values, layer
        self._file, self._problems = file, problems

    def precision(self) -> Precision | None:
        """What it says; None in part where something is wrong, which is reported."""
        maps_in, maps_out = self._map("in"), self._map("out")
        weighted = _has_weights(self._layer)
        return Precision(
            Mode.XILINX,
            maps_in,
            maps_out,
            self._weights() if weighted else None,
            maps_out if weighted else None,
            location=Location(file=self._file, layer=self._layer.name, op=self._layer.type),
        )

    def _map(self, side: str) -> Threshold | None:
        bits = self._bits(f"bw_layer_{side}")
        name = f"th_layer_{side}"
        value = self._number(name, self._values.get(name))
        if bits is None or value is None or self._is_wrong(threshold_problem(name, value, bits)):
            return None
        self._compare(f"sf_layer_{side}", [value], bits)
        return Threshold(bits, Fraction(value))

    def _weights(self) -> FilterThresholds | None:
        bits, given = self._bits("bw_params"), self._values.get("th_params")
        if self._layer.type == "InnerProduct":
            filters = self._layer.param("inner_product_param").integer("num_output")
        else:
            filters = self._layer.param("convolution_param").integer("num_output")
        if isinstance(given, list) and len(given) != filters:
            self._is_wrong(f"{len(given)} th_params for {filters} filters")
            return None
        if self._is_wrong(f"{filters} filters" if filters > MOST_FILTERS else ""):
            return None
        items = given if isinstance(given, list) else [given]
        values = [self._number(f"th_params[{index}]", item) for index, item in enumerate(items)]
        if bits is None or None in values:
            return None
        known = [value for value in values if value is not None]
        for index, value in enumerate(known):
            if value and self._is_wrong(threshold_problem(f"th_params[{index}]", value, bits)):
                return None
        self._compare("sf_params", known, bits)
        thresholds = tuple(map(Fraction, known))
        return FilterThresholds(bits, thresholds * (1 if isinstance(given, list) else filters))

    def _bits(self, name: str) -> int | None:
        value = self._values.get(name)
        if type(value) is not int:
            self._is_wrong(f"{name} is {_shown(value)}, and must be a whole number")
            return None
        return None if self._is_wrong(bits_problem(name, value)) else value

    def _number(self, name: str, value: Any) -> float | None:
        if type(value) not in {int, float}:
            self._is_wrong(f"{name} is {_shown(value)}, and must be a number")
            return None
        try:
            return float(value)
        except OverflowError:
            self._is_wrong(f"{name} is too large")
            return None

    def _compare(self, name: str, thresholds: Sequence[float], bits: int) -> None:
        """Sees to it that the value of one unit is what the thresholds make it."""
        if name not in self._values:
            return
        given = self._values[name]
        units = given if isinstance(given, list) else [given]
        if len(units) != len(thresholds):
            self._is_wrong(f"{len(units)} {name} for {len(thresholds)} thresholds")
            return
        for index, (unit, threshold) in enumerate(zip(units, thresholds, strict=True)):
            wanted = threshold / ((1 << (bits - 1)) - 1)
            label = f"{name}[{index}]" if isinstance(given, list) else name
            value = self._number(label, unit)
            if value is not None and not abs(value - wanted) <= _TOLERANCE * wanted:
                self._is_wrong(
                    f"{label} is {value:g}, and a threshold of {threshold:g} in {bits} bits makes "
                    f"it {wanted:g}"
                )
                return

    def _is_wrong(self, problem: str) -> bool:
        if problem:
            self._problems.add(_wrong(self._file, f"{self._name!r}: {problem}", self._name))
        return bool(problem)


def _has_weights(layer: Layer) -> bool:
    return kind_of(layer) in {Kind.WEIGHTED, Kind.SOFTWARE}


def _report_unknown(
    names: Sequence[str], layers: Sequence[Layer], file: str, found: Diagnostics
) -> None:
    if not names:
        return
    near = difflib.get_close_matches(names[0], [layer.name for layer in layers][:4096], 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    found.warning(
        "DLA145",
        "thresholds-file",
        f"the network has no layer {listed([repr(name) for name in names])}",
        location=Location(file=file),
        help=f"{hint}give the thresholds of this network",
        notes=("entries and layers are matched by name",),
    )


def _report_left(layers: Sequence[Layer], file: str, found: Diagnostics) -> None:
    left = [repr(layer.name) for layer in layers if layer.precision is None]
    if left and len(left) < len(layers):
        found.warning(
            "DLA145",
            "thresholds-file",
            f"no thresholds for {listed(left)}: these layers stay in floating point",
            location=Location(file=file),
            help="add entries for them, or give --calibrate",
        )
    elif left:
        found.error(
            "DLA145",
            "thresholds-file",
            f"none of the network's {len(left)} layers with weights has an entry",
            location=Location(file=file),
            help="give the thresholds of this network; entries and layers are matched by name",
        )


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    kinds = {dict: "an object", list: "a list", str: "text", bool: str(value).lower()}
    return kinds.get(type(value), repr(value)[:40])


def _wrong(file: str, message: str, layer: str = "") -> Diagnostic:
    return Diagnostic(
        "DLA145",
        "thresholds-file",
        message,
        location=Location(file=file, layer=layer),
        help="mend the entry, or quantise the network again",
        notes=("a threshold that is guessed would make another network of it",),
    )


def _unreadable(path: Path, why: str) -> UnreadableError:
    return UnreadableError(
        Diagnostic(
            "DLA145",
            "thresholds-file",
            why,
            location=Location(file=str(path)),
            help="give a JSON file as ml-suite's or DECENT's quantiser writes it",
        )
    )
