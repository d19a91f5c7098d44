"""Every QONNX file of the collection converts, or is refused for a fact of the hardware."""

from dataclasses import dataclass

import numpy as np
import pytest

import dlaconv
from dlaconv.errors import UserError
from dlaconv.options import Options
from tests.models.collection import QONNX, needs_models

pytestmark = needs_models


@dataclass(frozen=True)
class Outcome:
    """What must come of a file.

    Attributes:
        exact: maps whose integers and step stay.
        rescaled: maps with another real step (8-bit unsigned, pinned float scales).
        derived: maps that the source does not quantise.
        breaks: error-level rules that the written file breaks.
        guarded: layers with channels widened by the bias guard.
        refused: ids of the diagnostics if it is refused.
        why: the fact of the hardware or of the file behind a refusal.
    """

    exact: int = 0
    rescaled: int = 0
    derived: int = 1
    breaks: tuple[str, ...] = ()
    guarded: int = 0
    refused: tuple[str, ...] = ()
    why: str = ""


def refused(why: str, *ids: str) -> Outcome:
    return Outcome(refused=ids, why=why)


TABLE = {
    "allint8_pot": Outcome(9),
    "around_floor": Outcome(1, 1),
    "asym_zp": Outcome(0, 2),
    "bias_float": Outcome(1, 1),
    "bipolar_mlp": Outcome(2, derived=2),
    "eltadd_cat": Outcome(5, 1),
    "mobilenet_tiny_truncavg": Outcome(0, 7),
    "perchannel_float": Outcome(0, 4),
    "pot_conv": Outcome(1, 2, guarded=1),
    "pot_perchannel_dw": Outcome(5, derived=0),
    "resnet_tiny_pot": Outcome(5, 6),
    "trunc_k7_msb": Outcome(1, 2),
    "truncavg_k2_round": Outcome(1, 2),
    "truncavg_k4_floor": Outcome(1, 3),
    "w4a4": Outcome(2),
    "wround_floor": Outcome(1, 1),
    "real/finn_cybsec_PE_SIMD": refused("FINN's hardware blocks hold no weights", "DLA102"),
    "real/hls4ml_oldv_separable_conv": Outcome(5, derived=0, breaks=("IO-3",)),  # input NHWC
    "real/qonnx2mdc_mnist": refused("the input has no quantiser: give --calibrate", "DLA205"),
    "real/qonnx_espcn_nn_resize_quant": refused(
        "the input has no quantiser: give --calibrate", "DLA205"
    ),
    "real/qonnx_floatquant_act_weight_fp8": refused("no floating point", "DLA102"),
    "real/zoo_TFC_1W1A": refused("the input has no quantiser: give --calibrate", "DLA205"),
    "real/zoo_qkeras_jettagging": refused("the input has no quantiser: give --calibrate", "DLA205"),
}
"""By network; the exporters' files of one network have one outcome. ``rescaled`` counts maps of
class clipped too: which of the two a pinned float scale becomes depends on the samples."""


def files():
    patterns = ("*.qonnx.*.onnx", "real/*.onnx")
    found = sorted(p.relative_to(QONNX).as_posix() for each in patterns for p in QONNX.glob(each))
    return found or ["(no models)"]


def network_of(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.split('.')[0]}" if folder else file.split(".")[0]


def inputs_of(name: str, tmp_path, count: int):
    """Inputs like the stored one, as a calibration file; None where none is stored."""
    folder, _, file = name.rpartition("/")
    path = QONNX / folder / (file.split(".")[0] + ".npz")
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        x = next(array for key, array in arrays.items() if key.startswith("in"))
    spread = np.random.default_rng(0).normal(1, 0.1, (count, *x.shape[1:]))
    np.savez(tmp_path / "x.npz", x=(x[:1] * spread).astype(np.float32))
    return tmp_path / "x.npz"


def convert(name: str, tmp_path, **options):
    output = tmp_path / "net.dla.onnx"
    chosen = Options(allow_violations=True, **options)
    return dlaconv.convert(QONNX / name, output, frontend="qonnx", options=chosen)


@pytest.mark.parametrize("name", files())
def test_outcome(name, tmp_path):
    expected = TABLE.get(network_of(name))
    try:
        conversion = convert(name, tmp_path)
    except UserError as error:
        ids = {item.rule for item in error.diagnostics.errors}
        assert ids
        assert not list(tmp_path.iterdir())
        assert expected is None or ids == set(expected.refused)
        return
    summary, report = conversion.report["summary"], conversion.report
    assert report["verification"]["passed"]
    if expected is None:
        return
    assert not expected.refused
    maps = summary["maps"]
    assert (maps["exact"], maps["rescaled"] + maps["clipped"], maps["derived"]) == (
        expected.exact,
        expected.rescaled,
        expected.derived,
    )
    broken = {item["rule"] for item in report["diagnostics"] if item["severity"] == "error"}
    assert broken == set(expected.breaks)
    assert summary["weights"]["requantised"] == expected.guarded


EXACT = ["allint8_pot", "pot_perchannel_dw", "real/hls4ml_oldv_separable_conv"]


@pytest.mark.parametrize("name", [name for name in files() if network_of(name) in EXACT])
def test_signed_power_of_two_networks_keep_every_integer(name, tmp_path):
    samples = 4 if "hls4ml" in name else 64  # 256 x 256 maps
    report = convert(name, tmp_path, samples=samples).report
    rows = [row for row in report["verification"]["maps"] if row["class"] != "derived"]
    assert len(rows) >= 5
    assert {row["class"] for row in rows} == {"exact"}
    assert sum(row["accumulated"]["differing"] for row in rows) == 0


SIGNS = ["bipolar_mlp"]


@pytest.mark.parametrize("name", [name for name in files() if network_of(name) in SIGNS])
def test_networks_of_signs_keep_every_sign(name, tmp_path):
    for rounding in ("half-even", "floor", "down"):
        report = convert(name, tmp_path, samples=64, rounding=rounding).report
        rows = [row for row in report["verification"]["maps"] if row["class"] != "derived"]
        assert len(rows) == 2
        assert {row["class"] for row in rows} == {"exact"}
        assert sum(row["accumulated"]["differing"] for row in rows) == 0
        assert {row["real_step"] for row in rows} == {1.0}


UNSIGNED = [
    "eltadd_cat", "mobilenet_tiny_truncavg", "perchannel_float", "pot_conv", "resnet_tiny_pot",
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in files() if network_of(name) in UNSIGNED])
def test_unsigned_maps_are_rescaled_and_within_a_unit(name, tmp_path):
    report = convert(name, tmp_path, samples=64).report
    unsigned = {
        row["name"]: row["class"]
        for row in report["tensors"]
        if row["kind"] == "map" and row["source"] and not row["source"]["signed"]
    }
    assert unsigned
    assert set(unsigned.values()) == {"rescaled"}
    rows = [row for row in report["verification"]["maps"] if row["name"] in unsigned]
    assert rows
    assert max(row["local"]["largest"] for row in rows) <= 1.001
    assert sum(row["local"]["beyond"] + row["local"]["clipped"] for row in rows) == 0


def test_network_without_input_quantiser_converts_with_calibration(tmp_path):
    name = "real/qonnx2mdc_mnist.onnx"
    folder = tmp_path / "out"
    folder.mkdir()
    report = convert(name, folder, calibrate=inputs_of(name, tmp_path, 16), samples=16).report
    assert report["verification"]["passed"]
    (row,) = report["verification"]["outputs"].values()
    assert row["qsnr_db"] > 20
