"""Steps of real weights with the least error, on either grid."""

import numpy as np
import pytest

from dlaconv.ir.scales.fitting import fit_weights
from dlaconv.ir.scales.grid import WeightGrid
from dlaconv.ir.scales.weights import LinearScaling, keep_integers
from dlaconv.ir.target import Target

TARGET = Target.load()
PLAIN = LinearScaling(2.0**-5, 2.0**-4, 1.0, 1.0)
GAINED = LinearScaling(2.0**-5, 2.0**-4, 0.8, 1.3)

every_grid = pytest.mark.parametrize("grid", WeightGrid)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).laplace(size=shape).astype(np.float32) / 20


def errors(weights, scaled, scaling):
    """Squared error of each channel, over its power."""
    steps = scaled.steps.reshape(-1, *[1] * (weights.ndim - 1)) / scaling.ratio
    off = (scaled.integers * steps - weights).reshape(len(weights), -1)
    return np.square(off).sum(1) / np.square(weights.reshape(len(weights), -1)).sum(1)


@every_grid
@pytest.mark.parametrize("scaling", [PLAIN, GAINED])
@pytest.mark.parametrize("shape", [(64, 1, 3, 3), (32, 16, 1, 1), (16, 32, 3, 3), (8, 3000)])
def test_no_layer_loses_more_than_with_covering_steps_and_small_ones_lose_less(
    shape, scaling, grid
):
    weights = drawn(*shape)
    found = [
        errors(weights, scale(weights, None, None, scaling, TARGET, grid), scaling).mean()
        for scale in (fit_weights, keep_integers)
    ]
    assert found[0] <= found[1] * 1.001
    if weights[0].size < 64:
        assert found[0] < found[1] * 0.9


@every_grid
def test_channels_with_few_weights_get_the_best_step_of_all(grid):
    weights = drawn(20, 1, 3, 3, seed=3)
    got = errors(weights, fit_weights(weights, None, None, PLAIN, TARGET, grid), PLAIN)
    mantissas = [128 / a if grid is WeightGrid.RECIPROCAL else a for a in range(128, 256)]
    for channel, error in zip(weights.reshape(20, -1), got, strict=True):
        covering = np.abs(channel).max() / 127
        steps = np.ldexp(np.outer(mantissas, np.ones(40)), np.arange(-30, 10)).reshape(-1)
        steps = steps[(steps < 2 * covering) & (steps > 0.6 * covering)]
        units = np.clip(np.rint(channel / steps[:, None]), -127, 127)
        off = units * steps[:, None] - channel
        best = np.square(off).sum(1).min() / np.square(channel).sum()
        assert error <= best * 1.01


def test_biases_still_fit_16_bits():
    weights, bias = drawn(8, 4, 3, 3) / 1000, np.linspace(-9, 9, 8)
    scaled = fit_weights(weights, None, bias, PLAIN, TARGET, WeightGrid.RECIPROCAL)
    np.testing.assert_allclose(scaled.bias * scaled.steps * PLAIN.step_in, bias, rtol=1e-3)
    assert scaled.guarded.any()


def test_integers_are_kept():
    integers = np.random.default_rng(1).integers(-100, 100, (4, 2, 3, 3)).astype(np.int8)
    scaled = fit_weights(integers, np.full(4, 0.01), None, PLAIN, TARGET, WeightGrid.RECIPROCAL)
    np.testing.assert_array_equal(scaled.integers, integers)


def test_dead_channels_and_layers_do_no_harm():
    weights = drawn(4, 3, 3, 3)
    weights[1] = 0
    for values in (weights, np.zeros_like(weights)):
        scaled = fit_weights(values, None, None, PLAIN, TARGET, WeightGrid.RECIPROCAL)
        assert not scaled.integers[1].any()
        assert (scaled.steps > 0).all()
