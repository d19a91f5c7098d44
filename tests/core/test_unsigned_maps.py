"""Hardware that stores maps without sign: what is never negative has 8 bits for its values."""

import numpy as np
import pytest

import dlaconv
from dlaconv.options import Options
from tests.frontends.builders import save
from tests.frontends.onnx.plain import plain

RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.normal(size=(16, 16, 8, 8)).astype(np.float32)


def conv(x, y, name):
    return ("Conv", [x, name, f"{name}_b"], [y], {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]})


def network(folder, *, clip=None):
    """Convolutions with ReLU (or a clip), a max pool, and a convolution whose result has a sign."""
    act = ("Clip", ["a", "zero", "clip"], ["r"]) if clip else ("Relu", ["a"], ["r"])
    nodes = [
        conv("x", "a", "w1"),
        act,
        ("MaxPool", ["r"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        conv("p", "b", "w2"),
        ("Relu", ["b"], ["s"]),
        conv("s", "y", "w3"),
    ]
    constants = {"zero": np.float32(0), "clip": np.float32(clip)} if clip else {}
    for name in ("w1", "w2", "w3"):
        weights = RANDOM.normal(size=(16, 16, 3, 3)) / 12
        constants[name] = weights.astype(np.float32)
        constants[f"{name}_b"] = (RANDOM.normal(size=16) / 10).astype(np.float32)
    return save(folder, plain(nodes, constants, {"x": [1, 16, 8, 8]}))


def converted(folder, source, **options):
    settings = {"calibrate": {"x": SAMPLES}, "ranges": "minmax", "samples": 4, "optimise": 0}
    settings |= options
    if isinstance(settings["calibrate"], dict):
        np.savez(folder / "x.npz", **settings["calibrate"])
        settings["calibrate"] = folder / "x.npz"
    target = folder / "net.dla.onnx"
    report = dlaconv.convert(source, target, options=Options(**settings)).report
    maps = {row["name"]: row["target"] for row in report["tensors"] if row["kind"] == "map"}
    return report, maps, target


@pytest.mark.parametrize("policy", ["absorb", "mse", "ceil", "nearest"])
def test_maps_that_a_float_network_rectifies_use_all_8_bits(tmp_path, policy):
    source = network(tmp_path)
    _, signed, _ = converted(tmp_path, source, policy=policy)
    report, unsigned, _ = converted(tmp_path, source, policy=policy, unsigned_maps=True)
    assert not any(row["signed"] for name, row in unsigned.items() if name in {"r", "s"})
    assert all(row["signed"] for name, row in unsigned.items() if name in {"x", "y"})
    assert all(row["signed"] for row in signed.values())
    for name in ("r", "s"):
        ratio = signed[name]["real_step"] / unsigned[name]["real_step"]
        assert ratio == pytest.approx(255 / 127 if policy == "absorb" else 2, rel=1e-6)
    assert report["verification"]["passed"]


def test_the_output_is_nearer_to_the_source(tmp_path):
    source = network(tmp_path)
    found = [
        converted(tmp_path, source, unsigned_maps=unsigned)[0]["verification"]["outputs"]["y"]
        for unsigned in (False, True)
    ]
    assert found[1]["qsnr_db"] > found[0]["qsnr_db"] + 0.5


def test_what_is_written_is_read_as_unsigned(tmp_path):
    source = network(tmp_path)
    _, _, file = converted(tmp_path, source, unsigned_maps=True)
    maps = dlaconv.run(file, {"x": SAMPLES[:2]}, fetch_all=True)
    assert maps["r"].min() == 0
    assert maps["r"].max() > 127
    assert dlaconv.verify(source, file, samples=2).passed


def test_a_clip_is_the_saturation_of_all_8_bits(tmp_path):
    source = network(tmp_path, clip=1.0)
    _, maps, _ = converted(tmp_path, source, unsigned_maps=True)
    assert maps["r"]["real_step"] == pytest.approx(1 / 255)


def test_random_inputs_will_do(tmp_path):
    source = network(tmp_path)
    report, maps, _ = converted(tmp_path, source, unsigned_maps=True, calibrate="random")
    assert not maps["r"]["signed"]
    assert report["verification"]["passed"]
