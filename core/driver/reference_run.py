"""Comparing stage IMPORTED with what another program computes of the source (``--verify-with``).

All else that is verified starts from stage IMPORTED, so this is where a source that is read wrongly
shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location, listed
from dlaconv.errors import ConversionError

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dlaconv.driver.sources import OpenSource
    from dlaconv.ir.calibration.dataset import Dataset
    from dlaconv.ir.pipeline import Context
    from dlaconv.options import Options

_REAL, _ROUNDED = 1e-3, 2e-2
"""Largest differences, of the largest value of an output. Sums in another order are off by less
than 1e-4; where maps are rounded, a sum at a tie may be a unit off, and what follows by more."""


def compare_with_reference(
    model: ir.Model,
    opened: OpenSource,
    options: Options,
    context: Context,
    data: Dataset | None,
) -> dict[str, Any]:
    """Runs a source in another program, and what was read of it in onnxruntime.

    Args:
        model: the network at stage IMPORTED; it is not changed.
        opened: its source.
        options: the program, and how many samples are compared.
        context: shapes of graph inputs.
        data: samples; random ones if None.

    Returns:
        The row of the report: the largest difference, and what is allowed.

    Raises:
        ConversionError: if outputs differ.
        UserError: if the program is not there, or cannot run the source.
    """
    import numpy as np

    from dlaconv.ir import dialect
    from dlaconv.ir.calibration.samples import random_inputs
    from dlaconv.ir.execution import Executor

    program = options.verify_with or ""
    model = _with_shapes(model, context)
    count = options.compared_samples(0)
    samples = list(random_inputs(model, count, options.seed) if data is None else data.first(count))
    heads = [value.name or "" for value in model.graph.inputs]
    inputs = [np.concatenate([feeds[name] for feeds in samples]) for name in heads]
    wanted = opened.run_in(program, inputs)
    executor = Executor(model)
    runs = [executor.run(feeds) for feeds in samples]
    tails = [value.name or "" for value in model.graph.outputs]
    found = [np.concatenate([run[name] for run in runs]) for name in tails]
    rounded = any(node.domain == dialect.DOMAIN for node in model.graph)
    allowed = _ROUNDED if rounded else _REAL
    differences = _differences(tails, found, wanted)
    place = Location(file=str(opened.files[0]))
    problems = Diagnostics()
    for name, (largest, what) in differences.items():
        if not largest <= allowed:
            problems.add(_differs(program, name, what, allowed, place))
    if len(wanted) != len(tails):
        what = f"there are {len(wanted)} outputs in place of {len(tails)} ({listed(tails)})"
        problems.add(_differs(program, "", what, allowed, place))
    if problems.errors:
        raise ConversionError(problems)
    return {
        "program": program,
        "samples": len(samples),
        "largest": max((largest for largest, _ in differences.values()), default=0.0),
        "allowed": allowed,
    }


def _with_shapes(model: ir.Model, context: Context) -> ir.Model:
    """The network with the input shapes of the conversion, which stays as it is."""
    from dlaconv.ir.passes.fold_constants import fold_constants
    from dlaconv.ir.passes.infer_shapes import infer_shapes
    from dlaconv.ir.passes.set_shapes import set_shapes

    copy = model.clone()
    own = replace(context, diagnostics=Diagnostics(), rewrites=[])
    for step in (set_shapes, fold_constants, infer_shapes):
        step(copy, own)
    return copy


def _differences(
    names: Sequence[str], found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
) -> dict[str, tuple[float, str]]:
    """By output, how far it is off as a share of its largest value, and that in words."""
    import numpy as np

    differences = {}
    for name, ours, theirs in zip(names, found, wanted, strict=False):
        if ours.shape != theirs.shape:
            what = f"its shape is {list(theirs.shape[1:])} in place of {list(ours.shape[1:])}"
            differences[name] = float("inf"), what
            continue
        off = np.abs(ours.astype(np.float64) - theirs).max(initial=0)
        largest = np.abs(theirs.astype(np.float64)).max(initial=0)
        share = float(off / largest) if off else 0.0
        differences[name] = share, f"it is off by {off:.3g}, its largest value is {largest:.3g}"
    return differences


def _differs(program: str, name: str, what: str, allowed: float, place: Location) -> Diagnostic:
    output = f"output {name!r}: " if name else ""
    return Diagnostic(
        "DLA908",
        "differs-from-reference",
        f"{program} computes something else of the source: {output}{what}",
        location=place,
        help="report it with the file; without --verify-with it is converted as it was read",
        notes=(f"{allowed:.1%} of the largest value is allowed: sums are in another order",),
    )
