"""The range of XportDNN, against the public form of its search written out in plain numpy."""

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir.calibration.cumulative import covered_cumulatively, fine_bins, least_divergence
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.calibration.histogram import BINS, Histogram
from dlaconv.ir.calibration.observe import observe
from tests.ir.test_observe import Memory

RNG = np.random.default_rng(11)
DRAW = {
    "normal": lambda size: RNG.normal(size=size),
    "rectified": lambda size: np.maximum(RNG.normal(size=size) - 0.5, 0),
    "laplace": lambda size: RNG.laplace(size=size),
    "student": lambda size: RNG.standard_t(4, size),
    "uniform": lambda size: RNG.uniform(-1, 1, size),
    "two humps": lambda size: RNG.normal(RNG.choice([0.0, 9.0], size, p=[0.98, 0.02]), 1),
}


def transcribed(data, bits, bins="sqrt"):
    """ComputeThreshold(data, bits, bins), all values in memory, one divergence after the other."""
    magnitudes = np.abs(np.asarray(data, np.float32)).ravel()
    counts, edges = np.histogram(magnitudes, bins, range=(0, magnitudes.max()))
    total = np.cumsum(counts / counts.sum())
    levels = 2 ** (bits - 1)
    if levels + 1 > len(counts):
        return edges[-1]
    divergences, thresholds = [], []
    for i in range(levels + 1, len(counts) + 1):
        p = total.copy()
        p[i - 1 :] = 1
        few = np.interp(np.linspace(0, 1, levels), np.linspace(0, 1, i), p[:i])
        q = p.copy()
        q[:i] = np.interp(np.linspace(0, 1, i), np.linspace(0, 1, levels), few)
        divergences.append(((total - q) * np.log2(total / q)).sum())
        thresholds.append((i + 0.5) * (edges[1] - edges[0]))
    return thresholds[int(np.argmin(divergences))]


def observed(pieces, store=None, fine=True):
    """What is observed of a graph input on samples."""
    value = ir.Value(
        name="v", shape=ir.Shape([1, pieces[0].size]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    copied = ir.node("Identity", [value])
    graph = ir.Graph([value], copied.outputs, nodes=[copied], opset_imports={"": 18})
    copied.outputs[0].name = "w"
    data = Stacked({"v": np.stack(pieces)})
    return observe(ir.Model(graph, ir_version=10), data, ["w"], store, fine=fine)["w"]


def seen(*pieces, counted=1 << 30):
    found = Histogram()
    for piece in pieces:
        found.add(np.asarray(piece, np.float32), counted)
    return found


@pytest.mark.parametrize("name", sorted(DRAW))
@pytest.mark.parametrize("bits", [6, 8])
def test_the_cut_of_a_distribution_is_that_of_the_search_written_out(name, bits):
    values = DRAW[name](60_000).astype(np.float32)
    counts, edges = np.histogram(np.abs(values), "sqrt", range=(0, np.abs(values).max()))
    cumulative = np.cumsum(counts / counts.sum())
    place = least_divergence(cumulative, 2 ** (bits - 1))
    assert (place + 0.5) * (edges[1] - edges[0]) == transcribed(values, bits)


@pytest.mark.parametrize("name", sorted(DRAW))
@pytest.mark.parametrize("bits", [6, 8])
@pytest.mark.parametrize("size", [50_000, 40_000])  # 40,000 * 4 is a square
def test_samples_gone_through_twice_give_the_threshold_of_all_values_at_once(name, bits, size):
    pieces = np.stack([DRAW[name](size).astype(np.float32) for _ in range(4)])
    found = covered_cumulatively(observed(pieces).histogram, 2 ** (bits - 1) - 1)
    one_bin = np.abs(pieces).max() / np.sqrt(pieces.size)  # values on the edge of two bins decide
    assert found == pytest.approx(transcribed(pieces, bits), abs=1.01 * one_bin)


@pytest.mark.parametrize("name", sorted(DRAW))
def test_bins_that_double_find_about_the_same_threshold(name):
    """Noise in the bins decides among thresholds that are nearly as good."""
    ratios = []
    for _ in range(5):
        pieces = [DRAW[name](50_000).astype(np.float32) for _ in range(4)]
        found = covered_cumulatively(seen(*pieces), 127)
        ratios.append(found / transcribed(np.stack(pieces), 8))
    assert np.median(ratios) == pytest.approx(1, abs=0.15)


def test_memory_is_bounded_for_any_number_of_values():
    one = seen(RNG.normal(size=1000))
    one.least, one.seen = 0.0, 1 << 40
    assert fine_bins(one) == (1 << 13, one.largest)
    assert 128 < covered_cumulatively(one, 127) * BINS / one.limit <= BINS + 1


def test_a_store_keeps_what_the_second_run_counted():
    store, pieces = Memory(), [RNG.normal(size=30_000).astype(np.float32) for _ in range(3)]
    first = observed(pieces, store).histogram
    assert len(store) == 1
    again = observed(pieces, store).histogram
    assert np.array_equal(first.fine, again.fine)
    assert first.fine.sum() == first.seen == again.seen == 90_000
    assert observed(pieces, store, fine=False).histogram.fine is None
    assert len(store) == 2


@pytest.mark.parametrize(
    ("fine", "size"),
    [
        (lambda array: np.ones(1 << 14, np.int64), 1 << 14),  # more bins than are ever made
        (lambda array: -array, None),
        (lambda array: array * 0, None),
        (lambda array: array, 7),
        (lambda array: array, -1),
    ],
)
def test_counts_that_cannot_be_are_counted_anew(fine, size):
    store, pieces = Memory(), [RNG.normal(size=30_000).astype(np.float32) for _ in range(3)]
    wanted = observed(pieces, store).histogram.fine
    [key] = store
    changed = {"fine": fine(store[key]["fine"])}
    if size is not None:
        changed["fine_sizes"] = np.array([[size]])
    store[key] = store[key] | changed
    assert np.array_equal(observed(pieces, store).histogram.fine, wanted)


def test_of_few_values_the_largest_is_taken():
    values = np.float32(RNG.normal(size=127 * 127))  # 128 bins, as many as there are levels
    assert covered_cumulatively(seen(values), 127) == np.abs(values).max()
    assert transcribed(values, 8) == np.abs(values).max()


def test_sixteen_bits_are_never_cut_off():
    values = np.float32(RNG.standard_t(3, 60_000))
    assert covered_cumulatively(seen(values), 32767) == np.abs(values).max()


def test_values_away_from_zero_are_not_cut_off_either():
    values = np.float32(RNG.uniform(5, 6, 100_000))  # log2(P / Q) of the first bin is undefined
    assert covered_cumulatively(seen(values), 127) == values.max()


@pytest.mark.parametrize("values", [[0.0] * 9, [], [np.nan, 1.0], [1e-9] * 9, [3.0] * 100_000])
def test_what_cannot_be_searched_ends_where_it_ends(values):
    found = seen(values)
    assert covered_cumulatively(found, 127) == found.largest


def test_merged_histograms_know_how_many_values_they_saw():
    one, other = seen(np.ones(30), counted=3), seen(np.zeros(4))
    one.merge(other)
    assert one.seen == 34
