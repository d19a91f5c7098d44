import numpy as np

from dlaconv.ir.calibration.channels import ChannelValues, channel_values
from dlaconv.ir.calibration.dataset import Stacked
from tests.ir.scales.graphs import Net


def test_channels_have_the_largest_magnitude_of_all_samples():
    net = Net(3)
    net.data[:, 5] *= 7
    net.output(net.relu(net.x))
    found = channel_values(net.model, Stacked({"x": net.data}), ["x"])["x"]
    np.testing.assert_array_equal(found.largest, np.abs(net.data).max(axis=(0, 2, 3)))
    assert found.values.shape[0] == net.channels
    for channel, values in zip(net.data.swapaxes(0, 1), found.values, strict=True):
        assert set(values) <= set(channel.reshape(-1))


def test_large_maps_are_not_kept_whole():
    net = Net(0, size=128)
    net.data = np.repeat(net.data[:2], 8, axis=0)
    net.output(net.relu(net.x))
    found = channel_values(net.model, Stacked({"x": net.data}), ["x"])["x"]
    assert found.values.size <= 1 << 19
    assert found.values.shape[1] >= len(net.data)


def test_a_channel_reaches_as_far_from_its_usual_values_as_any_other():
    values = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, 1.0, 5.0]], np.float32)
    found = ChannelValues(np.abs(values).max(1).astype(np.float64), values).reach()
    stray = 5 / np.sqrt(7)
    np.testing.assert_allclose(found, [stray, 5])


def test_channels_without_values_reach_nowhere():
    seen = ChannelValues(np.zeros(2), np.zeros((2, 4), np.float32))
    np.testing.assert_array_equal(seen.reach(), [0, 0])
