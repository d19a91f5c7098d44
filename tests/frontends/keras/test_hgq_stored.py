"""Where files have the widths of HGQ2; files that HGQ2 itself wrote."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.frontends.keras.files import L, findings, given, load, outputs_of, save
from tests.frontends.keras.test_hgq import config, one, quantised, values

DATA = Path(__file__).parents[2] / "data" / "keras"


def named(place, k, i, f, overflow="SAT"):
    """The variables of a quantiser as a .h5 file has them: in any order, and one more."""
    found = {"k": k, "f": f, "i": i}
    held = {f"{place}/{name}": np.float32(array) for name, array in found.items()}
    return held | ({f"{place}/i_decay_speed": np.float32(0.01)} if overflow == "WRAP" else {})


def layer(kind, name, reads, given_config, weights, **more):
    """A layer as .h5 files call it."""
    return L(f"hgq>{kind}", name, reads, given_config, weights, module=None, **more)


def dense(name, reads, kernel, place="", overflow="SAT"):
    weights = {
        "kernel": kernel,
        **named(f"{name}_iq/fixed_point_quantizer_kif_7{place}", [[1]], [[2]], [[3]], overflow),
        **named(f"{name}_kq/fixed_point_quantizer_kbi_3", [[1]], [[1]], [[4]]),
    }
    weights[f"{name}_kq/fixed_point_quantizer_kbi_3/b"] = np.float32([[5]])
    given_config = {
        "units": kernel.shape[1],
        "use_bias": False,
        "iq_conf": config(overflow=overflow),
        "kq_conf": config("kbi"),
    }
    return layer("QDense", name, [reads], given_config, weights)


@pytest.mark.parametrize("overflow", ["SAT", "WRAP"])
def test_widths_of_a_h5_file_are_found_by_name(tmp_path, overflow):
    x, kernel = values(5, 3) * 4, values(3, 2)
    path = save(
        tmp_path / "m.h5", [given("x", (3,)), dense("d", "x", kernel, overflow=overflow)], ["d"]
    )
    [found] = outputs_of(path, x=x)
    read = quantised(x, 1, 2, 3, overflow=overflow)
    np.testing.assert_array_equal(found, read @ quantised(kernel, 1, 1, 4))


def test_a_quantizer_of_its_own_in_a_h5_file(tmp_path):
    own = layer(
        "Quantizer",
        "q",
        ["x"],
        {"config": config()},
        named("fixed_point_quantizer_kif_12", [[1, 0]], [[2, 1]], [[3, 1]]),
    )
    x = values(9, 2) * 4
    [found] = outputs_of(save(tmp_path / "m.h5", [given("x", (2,)), own], ["q"]), x=x)
    wanted = [[one(row[0], 1, 2, 3), one(row[1], 0, 1, 1)] for row in x]
    np.testing.assert_array_equal(found, np.float32(wanted))


@pytest.mark.parametrize(
    ("first", "second"), [("quantizer", "quantizer_1"), ("quantizer_9", "quantizer_10")]
)
def test_quantisers_of_a_sum_count_over_the_whole_model(tmp_path, first, second):
    a, b = values(4, 3) * 4, values(4, 3) * 4
    weights = {
        **named(f"multiple_quantizers_4/{second}/fixed_point_quantizer_kif_6", [[1]], [[1]], [[1]]),
        **named(f"multiple_quantizers_4/{first}/fixed_point_quantizer_kif_5", [[1]], [[2]], [[3]]),
        **named("q_oq/fixed_point_quantizer_kif_4", [[1]], [[0]], [[1]]),
    }
    given_config = {"iq_confs": [config(), config()], "enable_oq": True, "oq_conf": config()}
    own = layer("QAdd", "q", [["a", "b"]], given_config, weights)
    path = save(tmp_path / "m.h5", [given("a", (3,)), given("b", (3,)), own], ["q"])
    [found] = outputs_of(path, a=a, b=b)
    total = quantised(a, 1, 2, 3) + quantised(b, 1, 1, 1)
    np.testing.assert_array_equal(found, quantised(total, 1, 0, 1))


def test_a_quantiser_that_does_nothing_has_no_widths(tmp_path):
    a, b = values(4, 3) * 4, values(4, 3) * 4
    dummy = {"config": {"q_type": "dummy"}}
    counted = {
        f"iq/quantizers/quantizer_1/quantizer/vars/{n}": np.float32([[w]])
        for n, w in enumerate((2, 3, 1))
    }
    for ending, weights in (
        (".keras", counted),
        (
            ".h5",
            named("multiple_quantizers/quantizer_1/fixed_point_quantizer_kif", [[1]], [[2]], [[3]]),
        ),
    ):
        own = L("QAdd", "q", [["a", "b"]], {"iq_confs": [dummy, config()]}, weights)
        own.module = "hgq.layers.ops.merge"
        own.registered = "hgq>QAdd"
        if ending == ".h5":
            own.kind = "hgq>QAdd"
        path = save(tmp_path / f"m{ending}", [given("a", (3,)), given("b", (3,)), own], ["q"])
        [found] = outputs_of(path, a=a, b=b)
        np.testing.assert_array_equal(found, a + quantised(b, 1, 2, 3))


@pytest.mark.parametrize("prefixes", [("", ""), ("one/", "two/")])
def test_widths_within_models_in_a_h5_file(tmp_path, prefixes):
    """Keras writes all of a model in a model into one group, named from there or from outside."""
    kernels = values(3, 3), values(3, 3)
    names = ("d", "e") if prefixes == ("", "") else ("d", "d")
    towers = []
    for model, name, kernel, prefix in zip(("one", "two"), names, kernels, prefixes, strict=True):
        inner = dense(name, "i", kernel)
        inner.name = name
        tower = L("Functional", model, ["i"], layers=[given("i", (3,)), inner], outputs=[name])
        towers.append((tower, prefix))
    outer_layers = [given("i", (3,)), towers[0][0], towers[1][0]]
    towers[1][0].reads = ["one"]
    outer = L("Functional", "outer", ["x"], layers=outer_layers, outputs=["two"])
    path = save(tmp_path / "m.h5", [given("x", (3,)), outer], ["outer"])
    _write_nested(path, towers)
    x = values(4, 3)
    [found] = outputs_of(path, x=x)
    wanted = x
    for kernel in kernels:
        wanted = quantised(wanted, 1, 2, 3) @ quantised(kernel, 1, 1, 4)
    np.testing.assert_array_equal(found, wanted)


def _write_nested(path, towers):
    import h5py

    with h5py.File(path, "r+") as file:
        del file["model_weights/outer"]
        group = file.create_group("model_weights/outer")
        names = []
        for tower, prefix in towers:
            for name, array in tower.layers[1].weights.items():
                names.append(f"{prefix}{tower.layers[1].name}/{name}")
                group.create_dataset(names[-1], data=array)
        group.attrs["weight_names"] = [name.encode() for name in names]


def test_a_h5_file_without_widths_says_which(tmp_path):
    own = dense("d", "x", values(3, 2))
    own.weights = {n: a for n, a in own.weights.items() if not n.endswith("kif_7/f")}
    [(rule, message)] = findings(save(tmp_path / "m.h5", [given("x", (3,)), own], ["d"]))
    assert (rule, "no width f of the layer's quantiser iq" in message) == ("DLA176", True)


def test_beta_is_the_price_of_bits_and_no_offset(tmp_path):
    """Layers of HGQ2 have a variable beta; the offset of QBatchNormalization is bn_beta."""
    gamma, beta, mean, variance = np.float32([[1.2, -0.7], [0.3, 0.1], [0.5, -1], [0.8, 2]])
    weights = {
        "bn_gamma": gamma,
        "bn_beta": beta,
        "moving_mean": mean,
        "moving_variance": variance,
        "beta": np.float32(1e-5),
        **named("q_kq/fixed_point_quantizer_kif_1", [1, 1], [1, 1], [4, 5]),
        **named("q_bq/fixed_point_quantizer_kif_2", [1], [2], [5]),
    }
    given_config = {"enable_iq": False, "kq_conf": config(), "bq_conf": config()}
    own = layer("QBatchNormalization", "q", ["x"], given_config, weights)
    x = values(2, 3, 3, 2)
    [found] = outputs_of(save(tmp_path / "m.h5", [given("x", (3, 3, 2)), own], ["q"]), x=x)
    factor = gamma / np.sqrt(variance + np.float32(1e-3))
    offset = quantised(beta - mean * factor, 1, 2, 5)
    factor = np.float32([one(factor[0], 1, 1, 4), one(factor[1], 1, 1, 5)])
    np.testing.assert_array_equal(found, x * factor + offset)


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_what_hgq2_wrote_computes_what_hgq2_computes(form, tmp_path):
    """Widths per element, none in some; values that wrap; all bit by bit."""
    path = DATA / "hgq2.keras"
    if form == "h5":
        with zipfile.ZipFile(DATA / "hgq2.h5.zip") as archive:
            path = Path(archive.extract("hgq2.h5", tmp_path))
    stored = np.load(DATA / "hgq2.npz")
    found = outputs_of(path, image=stored["image"])
    for array, name in zip(found, ("wraps", "saturates"), strict=True):
        np.testing.assert_array_equal(array, stored[name])


def test_the_file_of_hgq2_has_what_its_readme_says():
    from dlaconv.ir import dialect

    nodes = [n for n in load(DATA / "hgq2.keras").model.graph if dialect.is_fixed_point(n)]
    grids = [dialect.element_grids_of(node) for node in nodes]
    assert [item.wraps for item in grids] == [True] * 5 + [False]
    assert all(not item.same_range for item in grids)
    assert any(not item.live.all() for item in grids)
    assert sum(item.stat().st_size for item in DATA.iterdir()) < 60_000
