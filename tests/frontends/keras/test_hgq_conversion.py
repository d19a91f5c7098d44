"""Networks of HGQ2 on the way to the hardware."""

import numpy as np
import pytest

import dlaconv
from dlaconv.api import run_chain
from dlaconv.driver.layer_rows import source_rows
from tests.frontends.keras.files import L, given, load, outputs_of, save
from tests.frontends.keras.test_hgq import config, layer, stored, values

EVERYWHERE = np.ones((1, 1, 1, 1))
SHAPE = (8, 8, 16)


def whole(path, k, i, f, **more):
    """The widths of a quantiser that has one for all elements."""
    return stored(path, k * EVERYWHERE, i * EVERYWHERE, f * EVERYWHERE, **more)


def conv(name, reads, widths, overflow="SAT", out=None):
    given_config = {
        "filters": 16,
        "kernel_size": [3, 3],
        "padding": "same",
        "use_bias": False,
        "iq_conf": config(overflow=overflow),
        "kq_conf": config("kbi", overflow="SAT_SYM"),
        "enable_oq": out is not None,
        "oq_conf": config(overflow=overflow),
    }
    weights = {
        "kernel": values(3, 3, 16, 16) / 8,
        **widths,
        **whole("kq", 1, 0, 6, kind="kbi"),
        **(out or {}),
    }
    return L("QConv2D", name, [reads], given_config, weights, module="hgq.layers")


def converted(tmp_path, layers, outputs, **options):
    path = save(tmp_path / "net.keras", [given("x", SHAPE), *layers], outputs)
    np.savez(tmp_path / "x.npz", x=values(8, *SHAPE))
    asked = dlaconv.Options(calibrate=tmp_path / "x.npz", rounding="half-up", **options)
    return path, dlaconv.convert(path, tmp_path / "net.dla.onnx", options=asked)


def on_hardware(tmp_path, x):
    hardware = dlaconv.Hardware(rounding="half-up")
    [found] = run_chain(tmp_path / "net.dla.json", {"x": x}, hardware=hardware).values()
    return found


@pytest.mark.parametrize("overflow", ["SAT", "WRAP"])
def test_a_homogeneous_network_keeps_every_integer(tmp_path, overflow):
    """Eight bits everywhere; what wraps does not overflow here."""
    widths = [whole("iq", 1, i, 7 - i, overflow=overflow) for i in (2, 3)]
    out = whole("oq", 1, 4, 3, overflow=overflow)
    layers = [
        conv("a", "x", widths[0], overflow),
        conv("b", "a", widths[1], overflow, out),
    ]
    path, done = converted(tmp_path, layers, ["b"], partition=True)
    maps = [row for row in done.report["tensors"] if row["kind"] == "map"]
    assert {row["class"] for row in maps} == {"exact"}
    rules = {item.rule for item in done.diagnostics}
    assert ("DLA182" in rules, "DLA181" in rules) == (overflow == "WRAP", False)
    x = values(4, *SHAPE)
    [wanted] = outputs_of(path, x=x)
    found = on_hardware(tmp_path, x)
    np.testing.assert_array_equal(found, wanted)


def test_two_widths_of_one_map_are_both_kept(tmp_path):
    """Quantisers are at consumers, so one layer is computed once for each of its widths."""
    sum_of = layer(
        "QAdd",
        {"iq_confs": [config(), config()], "enable_oq": True, "oq_conf": config()},
        {
            **whole("iq/quantizers/quantizer", 1, 3, 4),
            **whole("iq/quantizers/quantizer_1", 1, 3, 4),
            **whole("oq", 1, 4, 3),
        },
        [["a", "b"]],
    )
    layers = [conv("a", "x", whole("iq", 1, 2, 5)), conv("b", "a", whole("iq", 1, 3, 2)), sum_of]
    path, done = converted(tmp_path, layers, ["q"], partition=True)
    maps = [row for row in done.report["tensors"] if row["kind"] == "map"]
    assert {row["target"]["exponent"] for row in maps if row["layer"] in {"b", "q"}} >= {-2, -4}
    assert any(row["name"] == "single_use" for row in done.report["rewrites"])
    x = values(4, *SHAPE)
    [wanted] = outputs_of(path, x=x)
    found = on_hardware(tmp_path, x)
    np.testing.assert_array_equal(found, wanted)


@pytest.fixture
def heterogeneous(tmp_path):
    """Steps per element in front of the second convolution."""
    f = np.random.default_rng(3).integers(1, 5, (1, *SHAPE))
    ones = np.ones_like(f)
    layers = [
        conv("a", "x", whole("iq", 1, 2, 5)),
        conv("b", "a", stored("iq", ones, 3 * ones, f), out=whole("oq", 1, 4, 3)),
    ]
    return converted(tmp_path, layers, ["b"], partition=True)


def test_widths_that_differ_are_a_class_of_their_own(heterogeneous):
    _, done = heterogeneous
    maps = [row for row in done.report["tensors"] if row["kind"] == "map"]
    [row] = [row for row in maps if row["class"] == "requantised"]
    assert row["layer"] == "b"
    words = "steps of 0.0625 to 0.5 and largest values of 7.5 to 7.9375 in the source"
    assert words in row["note"]
    assert row["target"]["step"] == 2**-4
    [warning] = [item for item in done.diagnostics if item.rule == "DLA181"]
    assert warning.location.layer == "b"
    assert warning.message.endswith("here all have steps of 0.0625, 8 bits")


def test_widths_that_differ_cost_little_and_are_no_failure(heterogeneous, tmp_path):
    path, done = heterogeneous
    assert "DLA901" not in {item.rule for item in done.diagnostics}
    x = values(4, *SHAPE)
    [wanted] = outputs_of(path, x=x)
    found = on_hardware(tmp_path, x)
    assert 0 < ((found - wanted) ** 2).sum() < 0.01 * (wanted**2).sum()


def test_a_source_with_widths_per_element_is_shown(heterogeneous):
    path, _ = heterogeneous
    _, layers, _ = source_rows(load(path).model)
    rows = [row for layer in layers for row in layer["maps"] if row["smallest_step"] == 2**-4]
    [row] = [row for row in rows if row["largest_step"] == 0.5]
    assert (row["bits"], row["signed"], row["low"]) == (8, True, -8)


def pruned(mask, path="iq"):
    """Widths of 8 bits, and none where the mask is zero."""
    full = np.broadcast_to(mask, (1, *SHAPE))
    return stored(path, np.ones_like(full), np.where(full, 3, -9), np.where(full, 4, -9))


@pytest.mark.parametrize("reader", ["first", "second"])
@pytest.mark.parametrize(
    ("mask", "sides"),
    [
        (np.arange(16) % 4 > 0, {"accelerator"}),
        (np.random.default_rng(5).random(SHAPE) > 0.1, {"accelerator", "host"}),
    ],
    ids=["channels", "elements"],
)
def test_elements_without_bits_stay_zero(tmp_path, mask, sides, reader):
    """Channels by zeros in the weights that read them, elements by the host; without any data."""
    widths = [whole("iq", 1, 2, 5), pruned(mask.astype(int))]
    first, second = widths if reader == "second" else widths[::-1]
    layers = [conv("a", "x", first), conv("b", "a", second, out=whole("oq", 1, 4, 3))]
    path = save(tmp_path / "net.keras", [given("x", SHAPE), *layers], ["b"])
    asked = dlaconv.Options(partition=True, rounding="half-up")
    done = dlaconv.convert(path, tmp_path / "net.dla.onnx", options=asked)
    assert {part["side"] for part in done.report["parts"]} == sides
    assert not {"DLA181", "DLA901"} & {item.rule for item in done.diagnostics}
    maps = [row for row in done.report["tensors"] if row["kind"] == "map"]
    assert {row["class"] for row in maps} == {"exact"}
    x = values(4, *SHAPE)
    [wanted] = outputs_of(path, x=x)
    np.testing.assert_array_equal(on_hardware(tmp_path, x), wanted)


def test_elements_without_bits_get_the_maps_grid_where_the_host_takes_no_part(tmp_path):
    mask = np.random.default_rng(5).random(SHAPE) > 0.1
    widths = [whole("iq", 1, 2, 5), pruned(mask.astype(int))]
    layers = [conv("a", "x", widths[0]), conv("b", "a", widths[1], out=whole("oq", 1, 4, 3))]
    path, done = converted(tmp_path, layers, ["b"])
    [warning] = [item for item in done.diagnostics if item.rule == "DLA184"]
    assert warning.message.startswith(f"{(~mask).sum()} of {mask.size} elements are always zero")
    [row] = [row for row in done.report["tensors"] if row["class"] == "requantised"]
    assert "always zero in the source" in row["note"]
    assert {part["side"] for part in done.report["parts"]} == {"accelerator"}
    x = values(4, *SHAPE)
    [wanted] = outputs_of(path, x=x)
    [found] = dlaconv.run(
        tmp_path / "net.dla.onnx",
        {"x": x},
        hardware=dlaconv.Hardware(rounding="half-up"),
        as_float=True,
    ).values()
    off = ((found.reshape(wanted.shape) - wanted) ** 2).sum() / (wanted**2).sum()
    assert 0 < off < 0.2
