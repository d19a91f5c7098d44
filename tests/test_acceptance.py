"""What the first whole slice promises, from a QONNX file to the integers of the ACCESS file.

The numbers are recomputed here where that can be done without the code under test: kept weights
and multipliers are read from both files with the onnx package alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import dlaconv
from dlaconv.frontends.qonnx import load_qonnx
from dlaconv.ir.calibration.samples import random_inputs
from dlaconv.ir.execution import Executor, split_samples
from dlaconv.options import Options
from tests.networks import Built, Style, big_chain, chain, residual, varied

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "qonnx"
DIGITS = ROOT / "examples" / "digits"
SEEDS = (0, 1)
CONVOLUTIONS = (4, 8, 16)
PER_TENSOR = Style(per_channel=False, bias="16")
POWERS = Style(power_of_two=True, bias="16")
UNSIGNED = Style(unsigned=True)


@dataclass
class Run:
    """A conversion and its comparison with the source on 64 inputs."""

    source: Path
    target: Path
    verification: object
    report: dict

    @property
    def rows(self) -> dict:
        return {row.about.name: row for row in self.verification.rows}

    @property
    def output_qsnr(self) -> float:
        (name,) = self.verification.outputs
        return self.rows[name].accumulated.qsnr_db


def convert(source: Path, folder: Path, *, inputs: Path | None = None, **options: object) -> Run:
    """Converts and compares; violations of hardware limits are not what is tested here.

    Without ``inputs``, 64 random ones use the range of the source's input quantiser.
    """
    if inputs is None:
        inputs = folder / "inputs.npz"
        np.savez(inputs, **random_inputs(load_qonnx(source).model, 64, seed=1).arrays)
    target = folder / f"{source.stem}.dla.onnx"
    chosen = Options(verify=False, allow_violations=True, **options)
    report = dlaconv.convert(source, target, options=chosen).report
    verification = dlaconv.verify(source, target, inputs=inputs)
    assert verification.samples == 64
    return Run(source, target, verification, report)


def convert_built(built: Built, folder: Path, **options: object) -> Run:
    source, inputs = folder / "net.onnx", folder / "inputs.npz"
    onnx.save(built.model, source)
    np.savez(inputs, **built.samples)
    return convert(source, folder, inputs=inputs, **options)


# Signed networks at powers of two: every integer is kept.

EXACT_FILES = (
    DIGITS / "digits.onnx",
    DATA / "pot_signed.onnx",
    DATA / "pot_signed.dynamo.onnx",
    DATA / "pot_depthwise.onnx",
)
EXACT_BUILT: dict[str, Callable[[], Built]] = {
    "chain": lambda: chain(8, 20, POWERS),
    "chain_no_bias": lambda: chain(4, 21, Style(power_of_two=True, bias="none")),
    "residual": lambda: residual(4, 22, POWERS),
    "residual_own_operand_scales": lambda: residual(
        4, 23, Style(power_of_two=True, shared=False, bias="32")
    ),
    "varied": lambda: varied(24, POWERS),
}


def assert_every_integer_kept(run: Run) -> None:
    assert len(run.rows) > 4
    # what a rewrite puts between two maps of the source
    assert all(name.endswith(("/stored", "/reshape")) for name in run.verification.unmatched)
    differing = {name: row.accumulated.differing for name, row in run.rows.items()}
    assert differing == dict.fromkeys(run.rows, 0)
    assert {row.about.fidelity for row in run.rows.values()} == {"exact"}


@pytest.mark.parametrize("source", EXACT_FILES, ids=lambda path: path.stem)
def test_signed_power_of_two_network_keeps_every_integer(source, tmp_path):
    assert_every_integer_kept(convert(source, tmp_path))


@pytest.mark.parametrize("name", EXACT_BUILT)
def test_generated_power_of_two_network_keeps_every_integer(name, tmp_path):
    assert_every_integer_kept(convert_built(EXACT_BUILT[name](), tmp_path))


@pytest.mark.parametrize("source", EXACT_FILES, ids=lambda path: path.stem)
def test_simulated_file_gives_the_outputs_of_brevitas(source, tmp_path):
    run = convert(source, tmp_path)
    name = "samples" if source.parent == DIGITS else source.name.partition(".")[0]
    stored = np.load(source.with_name(f"{name}.npz"))
    got = dlaconv.run(run.target, {"image": stored["image"]}, as_float=True)
    assert np.array_equal(got["logits"], stored["logits"])


def test_example_is_compliant_without_any_exception(tmp_path):
    conversion = dlaconv.convert(DIGITS / "digits.onnx", tmp_path / "digits.dla.onnx")
    assert [str(found) for found in conversion.diagnostics] == []
    result = dlaconv.check(tmp_path / "digits.dla.onnx")
    assert [str(found) for found in result.diagnostics] == []


# Unsigned 8-bit maps on signed hardware: one bit less, never more than that.

UNSIGNED_FILES = {
    DATA / "pot_unsigned.onnx": 3,
    DATA / "pot_residual.onnx": 3,
    DATA / "float_batch_norm.onnx": 3,
    DATA / "trunc_average.onnx": 2,
    DIGITS / "digits_float_scales.onnx": 4,
}
"""Files with the number of their unsigned quantisers at least."""


def unsigned_maps(path: Path) -> set[str]:
    """Maps that the source keeps in 8 unsigned bits."""
    found = set()
    model = onnx.load(path)
    bits = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Quant" or float(bits[node.input[3]]) != 8:
            continue
        signed = next(item.i for item in node.attribute if item.name == "signed")
        found |= set() if signed else {node.output[0]}
    return found


def assert_unsigned_maps_lose_one_bit(run: Run, at_least: int) -> None:
    maps = unsigned_maps(run.source) & run.rows.keys()
    assert len(maps) >= at_least
    assert {run.rows[name].about.fidelity for name in maps} == {"rescaled"}
    for name in maps:
        local = run.rows[name].local
        assert local.largest <= 1 + 1e-3, name
        assert local.clipped == 0, name
    assert run.output_qsnr > 18


@pytest.mark.parametrize("source", UNSIGNED_FILES, ids=lambda path: path.stem)
def test_unsigned_maps_lose_one_bit(source, tmp_path):
    run = convert(source, tmp_path)
    assert_unsigned_maps_lose_one_bit(run, UNSIGNED_FILES[source])


def test_unsigned_maps_of_power_of_two_network_double_their_step(tmp_path):
    run = convert_built(chain(4, 25, Style(unsigned=True, power_of_two=True)), tmp_path)
    assert_unsigned_maps_lose_one_bit(run, 3)
    source = run.source
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}
    steps = {
        node.output[0]: float(constants[node.input[1]])
        for node in onnx.load(source).graph.node
        if node.output and node.output[0] in unsigned_maps(source)
    }
    got = {name: run.rows[name].about.real_step for name in steps}
    assert got == {name: 2 * step for name, step in steps.items()}


# Signed maps at float scales.

FLOAT_SCALES: dict[str, Callable[[], Built]] = {}
for _seed in SEEDS:
    for _count in CONVOLUTIONS:
        FLOAT_SCALES |= {
            f"chain{_count}-{_seed}": lambda n=_count, s=_seed: chain(n, s),
            f"chain_per_tensor{_count}-{_seed}": lambda n=_count, s=_seed: chain(
                n, s + 10, PER_TENSOR
            ),
            f"residual{_count}-{_seed}": lambda n=_count, s=_seed: residual(n // 2, s + 30),
            f"residual_own_scales{_count}-{_seed}": lambda n=_count, s=_seed: residual(
                n // 2, s + 40, Style(shared=False)
            ),
        }


@pytest.fixture(scope="module")
def absorbed(tmp_path_factory) -> Callable[[str], Run]:
    """Converted networks by name, each converted once."""
    runs: dict[str, Run] = {}

    def get(name: str) -> Run:
        if name not in runs:
            runs[name] = convert_built(FLOAT_SCALES[name](), tmp_path_factory.mktemp("absorbed"))
        return runs[name]

    return get


@dataclass
class Weights:
    """A convolution of a file: its weights in units of their step, and those steps."""

    integers: np.ndarray
    steps: np.ndarray
    source: str
    result: str


def source_convolutions(path: Path) -> dict[str, Weights]:
    """The convolutions of a QONNX file by name, with the maps they read and make."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    readers = {node.input[0]: node for node in graph.node}
    found = {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        quant = producers[node.input[1]]
        weights, scale = (constants[name] for name in quant.input[:2])
        steps = np.broadcast_to(scale.reshape(-1), weights.shape[0]).astype(np.float64)
        integers = np.rint(weights / scale).clip(-127, 127)
        after = readers[node.output[0]]
        after = readers[after.output[0]] if after.op_type == "Relu" else after
        found[node.name] = Weights(integers, steps, node.input[0], after.output[0])
    return found


def access_convolutions(path: Path) -> dict[str, tuple[Weights, float, float]]:
    """The convolutions of an ACCESS file by name, each with input and output scale."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            steps = np.array(given["weight_ch_scales"], np.float64)
            weights = constants[node.input[1]] / steps[:, None, None, None]
            kept = Weights(weights, steps, node.input[0], node.output[0])
            found[node.name] = (kept, given["input_scale"], given["output_scale"])
    return found


def test_generated_network_is_what_it_says(tmp_path):
    """The numpy side of the generators and the imported network agree, up to sums of floats."""
    for built in (chain(4, 3), residual(2, 3, UNSIGNED), varied(3)):
        onnx.save(built.model, tmp_path / "net.onnx")
        executor = Executor(load_qonnx(tmp_path / "net.onnx").model, built.maps)
        values = [executor.run(feeds) for feeds in split_samples(built.samples)]
        for name in built.maps:
            used = len(np.unique(np.concatenate([value[name] for value in values])))
            assert used > 30, f"{name} uses {used} of its integers"


def requantised_weights(run: Run) -> dict[str, str]:
    """What the report says of layers whose weights were rounded anew."""
    weights = [row for row in run.report["tensors"] if row["kind"] == "weight"]
    assert weights
    return {row["layer"]: row["note"] for row in weights if row["class"] == "requantised"}


def test_bias_guard_widens_one_channel_and_says_so(tmp_path):
    built = chain(4, 0)
    (bias,) = (item for item in built.model.graph.initializer if item.name == "bias6")
    array = numpy_helper.to_array(bias).copy()
    array[3] = 60
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))
    run = convert_built(built, tmp_path)
    assert requantised_weights(run).keys() == {"conv6"}
    assert "1 channel" in requantised_weights(run)["conv6"]
    written = access_convolutions(run.target)
    for node, wanted in source_convolutions(run.source).items():
        changed = np.abs(written[node][0].integers - wanted.integers).max((1, 2, 3)) > 1e-3
        assert np.flatnonzero(changed).tolist() == ([3] if node == "conv6" else [])


@pytest.mark.parametrize("name", FLOAT_SCALES)
def test_weight_integers_are_kept(absorbed, name):
    run = absorbed(name)
    assert requantised_weights(run) == {}
    written = access_convolutions(run.target)
    for node, wanted in source_convolutions(run.source).items():
        got = written[node][0].integers
        assert np.abs(got - wanted.integers).max() < 1e-3, node


@pytest.mark.parametrize("name", FLOAT_SCALES)
def test_absorbing_is_better_than_nearest_powers(absorbed, name, tmp_path):
    nearest = convert_built(FLOAT_SCALES[name](), tmp_path, policy="nearest")
    gain = absorbed(name).output_qsnr - nearest.output_qsnr
    assert gain >= (3 if name.startswith("chain") else -0.2)


@pytest.mark.parametrize("style", [Style(), UNSIGNED, Style(bits=6, weight_bits=6), POWERS])
@pytest.mark.parametrize("build", [varied, lambda seed, style: residual(3, seed, style)])
def test_absorbing_is_never_worse_than_nearest_powers(build, style, tmp_path):
    first, second = (
        convert_built(build(50, style), tmp_path, policy=policy).output_qsnr
        for policy in ("absorb", "nearest")
    )
    assert first == second == math.inf or first >= second - 0.2


@pytest.mark.parametrize("name", FLOAT_SCALES)
def test_layers_fed_with_the_sources_integers_are_off_by_a_unit_at_most(absorbed, name):
    exact = [row for row in absorbed(name).rows.values() if row.about.fidelity == "exact"]
    assert len(exact) >= len(absorbed(name).rows) - 2  # all but the pinned input and output
    assert max(row.local.largest for row in exact) <= 1
    assert sum(row.local.clipped for row in exact) == 0


@pytest.mark.parametrize("name", FLOAT_SCALES)
def test_as_many_integers_differ_as_rounding_the_multipliers_predicts(absorbed, name):
    """The share is mean |q_c| times the relative error of channel c's multiplier."""
    run = absorbed(name)
    written = access_convolutions(run.target)
    convolutions = source_convolutions(run.source)
    kept = {row.about.name for row in run.rows.values() if row.about.fidelity == "exact"}
    checked = {
        node: conv for node, conv in convolutions.items() if {conv.source, conv.result} <= kept
    }
    assert len(checked) >= len(convolutions) - 2
    executor = Executor(load_qonnx(run.source).model, [conv.result for conv in checked.values()])
    samples = np.load(run.source.with_name("inputs.npz"))
    values = [executor.run(feeds) for feeds in split_samples(dict(samples))]
    for node, conv in checked.items():
        hardware, scale_in, scale_out = written[node]
        step_in, step_out = (run.rows[map_].about.real_step for map_ in (conv.source, conv.result))
        ideal = conv.steps * (scale_out / step_out) / (scale_in / step_in)
        errors = np.abs(hardware.steps / ideal - 1)
        assert errors.max() < 0.004
        magnitude = np.mean([np.abs(value[conv.result]).mean((0, 2, 3)) for value in values], 0)
        predicted = float(np.mean(magnitude / step_out * errors))
        local = run.rows[conv.result].local
        assert local.differing / local.count <= 1.1 * predicted + 0.002, node


# Size.


def calls_to_convert(n_nodes: int, folder: Path) -> int:
    """Function calls that a conversion takes: time that no other program disturbs."""
    source = folder / f"{n_nodes}.onnx"
    onnx.save(big_chain(n_nodes).model, source)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    options = Options(verify=False, allow_violations=True)
    sys.setprofile(count)
    try:
        dlaconv.convert(source, source.with_suffix(".dla.onnx"), options=options)
    finally:
        sys.setprofile(None)
    return calls


def test_work_grows_linearly_with_the_network(tmp_path):
    calls_to_convert(100, tmp_path)  # imports and caches
    small, double, fourfold = (calls_to_convert(size, tmp_path) for size in (200, 400, 800))
    assert (fourfold - double) / (double - small) < 2.2


def test_network_of_ten_thousand_nodes_converts(tmp_path):
    built = big_chain(10_000)
    onnx.save(built.model, tmp_path / "big.onnx")
    options = Options(verify=False, allow_violations=True)
    conversion = dlaconv.convert(tmp_path / "big.onnx", tmp_path / "big.dla.onnx", options=options)
    written = onnx.load(tmp_path / "big.dla.onnx")
    convolutions = sum(node.op_type == "Conv" for node in built.model.graph.node)
    assert sum(node.op_type == "Conv" for node in written.graph.node) == convolutions
    assert conversion.output == tmp_path / "big.dla.onnx"
