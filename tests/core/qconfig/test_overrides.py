"""``--qconfig``: what becomes of overrides in the converted network."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.errors import UserError
from tests.core.qconfig.networks import RNG, integers, refused


def test_a_free_map_saturates_at_the_threshold(convert):
    for threshold in (0.3, 1.0, 3.7, 100.0):
        row = convert([{"match": "stem", "output": {"threshold": threshold}}], verify=False)["r0"]
        assert row["target"]["real_step"] * 127 == pytest.approx(threshold, rel=1e-6)


def test_the_converted_file_has_the_step(convert, tmp_path):
    """What the hardware stores where the inputs are far too large."""
    row = convert([{"match": "stem", "output": {"threshold": 0.7}}])["r0"]
    assert row["override"]["text"] == "threshold 0.7"
    assert row["override"]["line"] == 4
    assert "it holds 0.7, where threshold 0.7 is asked for" in row["note"]
    feeds = {"x": np.full((1, 3, 16, 16), 100, np.float32)}
    found = dlaconv.run(tmp_path / "net.dla.onnx", feeds, fetch_all=True, as_float=True)
    assert found["r0"].max() == pytest.approx(0.7, rel=1e-6)


def test_a_graph_input_takes_the_next_power_of_two(convert):
    steps = {
        "threshold": [(1.0, 2**-6), (127 / 128, 2**-7), (4.0, 2**-4), (3.96, 2**-5)],
        "fraction_bits": [(7, 2**-7), (0, 1.0), (-2, 4.0)],
        "step": [(0.25, 0.25)],
    }
    for key, cases in steps.items():
        for value, step in cases:
            rows = convert([{"match": "x", "output": {key: value}}], verify=False)
            [row] = [row for row in rows.values() if row.get("override")]
            assert row["target"]["step"] == row["target"]["real_step"] == step


@pytest.mark.parametrize("optimise", [0, 1, 2])
@pytest.mark.parametrize("policy", ["absorb", "nearest", "ceil", "mse"])
def test_no_search_and_no_policy_moves_a_map_below_its_threshold(convert, optimise, policy):
    wanted = {"r0": 0.83, "r1": 9.0, "c3": 4.0, "s": 5.0, "c4": 11.0, "c6": 30.0}
    entries = [{"match": name, "output": {"threshold": t}} for name, t in wanted.items()]
    rows = convert(entries, optimise=optimise, policy=policy, verify=False)
    for name, threshold in wanted.items():
        reach = rows[name]["target"]["real_step"] * 127
        assert threshold * (1 - 1e-6) <= reach < 2 * threshold
    if policy == "absorb":  # nobody else has a say in this map's step
        assert rows["r0"]["target"]["real_step"] * 127 == pytest.approx(0.83, rel=1e-6)


@pytest.mark.parametrize("optimise", [0, 1, 2])
def test_a_step_is_met_exactly_even_where_others_are_tied_to_it(convert, optimise):
    for name in ("r1", "c3", "s"):
        entries = [{"match": name, "output": {"step": 0.0371}}]
        rows = convert(entries, optimise=optimise, verify=False)
        assert rows[name]["target"]["real_step"] == pytest.approx(0.0371, rel=1e-6)


def test_sums_of_maps_with_unrelated_steps_become_convolutions(convert):
    wanted = {"r1": 0.0371, "c3": 0.0213}
    entries = [{"match": name, "output": {"step": step}} for name, step in wanted.items()]
    rows = convert(entries, verify=False)
    for name, step in wanted.items():
        assert rows[name]["target"]["real_step"] == pytest.approx(step, rel=1e-6)


def test_a_map_that_shares_its_step_gets_one_that_suits_all(convert):
    rows = convert([{"match": "left", "output": {"threshold": 40.0}}], verify=False)
    assert rows["c4"]["target"]["real_step"] == rows["c5"]["target"]["real_step"]
    assert rows["c4"]["target"]["real_step"] * 127 == pytest.approx(40.0)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "kl", "xilinx"])
def test_a_method_for_one_map_is_that_method_for_all(convert, method):
    other = "minmax" if method == "mse" else "mse"
    one = convert([{"match": "r0", "output": {"ranges": method}}], ranges=other, verify=False)
    neutral = [{"match": "y", "output": {"threshold": 1}}]
    everything = convert(neutral, ranges=method, optimise=0, verify=False)
    neither = convert(neutral, ranges=other, optimise=0, verify=False)
    step = one["r0"]["target"]["real_step"]
    assert step == pytest.approx(everything["r0"]["target"]["real_step"])
    assert step != pytest.approx(neither["r0"]["target"]["real_step"])


def test_more_percent_cover_more(convert):
    steps = [
        convert([{"match": "r0", "output": {"percentile": share}}], verify=False)["r0"]
        for share in (60, 90, 99)
    ]
    first, second, third = (row["target"]["real_step"] for row in steps)
    assert first < second < third


def test_the_last_entry_that_matches_counts(convert):
    entries = [
        {"match": "*", "output": {"threshold": 64}},
        {"match": "block.*", "output": {"threshold": 32}},
        {"match": "c?", "output": {"threshold": 16}},
        {"match": "block.c*2", "output": {"threshold": 0.5}},
    ]
    rows = convert(entries, verify=False)
    lines = {name: row["override"]["text"] for name, row in rows.items() if row.get("override")}
    assert lines.pop("x/derived/out") == "threshold 64"
    assert lines == {
        "r0": "threshold 16",  # c0
        "r1": "threshold 16",  # c1, of which it is the map, too
        "r2": "threshold 0.5",
        "c3": "threshold 16",
        "s": "threshold 32",
        "c4": "threshold 16",
        "c5": "threshold 16",
        "c6": "threshold 16",
        "y": "threshold 64",
    }


def test_a_map_goes_by_the_names_of_all_its_layers(convert):
    for name in ("conv1", "c1", "relu1", "r1"):
        rows = convert([{"match": name, "output": {"threshold": 2.5}}], verify=False)
        assert [key for key, row in rows.items() if row.get("override")] == ["r1"]


def test_an_operator_is_enough(convert):
    rows = convert([{"op": "Conv", "weights": {"bits": 5}}], verify=False)
    got = [row["target"]["bits"] for row in rows.values() if row["kind"] == "weight"]
    assert got == [5] * 7
    rows = convert([{"op": "Conv", "match": "b*", "weights": {"bits": 5}}], verify=False)
    got = [row["target"]["bits"] for row in rows.values() if row["kind"] == "weight"]
    assert sorted(got) == [5, 5, 8, 8, 8, 8, 8]


def test_thresholds_take_the_place_of_calibration_data(convert):
    entries = [{"match": "*", "output": {"threshold": 4.0}}]
    entries += [{"match": "block.clip", "output": {"threshold": 1.0}}]
    rows = convert(entries, calibrate=None)
    maps = [row for row in rows.values() if row["kind"] == "map"]
    assert all(row.get("override") for row in maps)
    assert all(row["target"]["real_step"] * 127 >= 1.0 - 1e-6 for row in maps)
    assert not [item for item in convert.diagnostics if item.rule in {"DLA205", "DLA207"}]


@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8])
def test_weights_have_the_bits_that_are_asked_for(convert, bits):
    rows = convert([{"match": "conv1", "weights": {"bits": bits}}])
    values, _ = integers(convert.model, "conv1")
    assert -(2 ** (bits - 1)) <= values.min()
    assert values.max() == 2 ** (bits - 1) - 1
    assert rows["conv1/weights"]["target"]["bits"] == bits
    values, _ = integers(convert.model, "block.conv2")
    assert np.abs(values).max() >= 127


def test_weights_cover_their_largest_or_have_the_least_squared_error(convert, source):
    [array] = [i for i in onnx.load(source).graph.initializer if i.name == "w1"]
    wanted = numpy_helper.to_array(array).astype(np.float64)
    noise = {}
    for method in ("max", "mse"):
        rows = convert([{"match": "conv1", "weights": {"ranges": method, "bits": 4}}])
        values, scales = integers(convert.model, "conv1")
        map_ratio = rows["conv1/weights"]["target"]["steps"]
        assert len(map_ratio) == 16
        got = values * scales
        unit = np.sum(got * wanted) / np.sum(wanted * wanted)  # the maps' ratio
        noise[method] = np.sum((got / unit - wanted) ** 2)
        if method == "max":
            largest = np.abs(wanted).reshape(16, -1).max(1)
            assert np.all(np.abs(values).reshape(16, -1).max(1) == 7)
            assert np.all(scales.reshape(-1) / unit * 7 >= largest * 0.99)
    assert noise["mse"] < 0.97 * noise["max"]


def test_an_input_takes_any_step_where_the_host_is_told_of_it(convert):
    entries = [{"match": "x", "output": {"step": 0.03}}]
    rows = convert(entries, io="absorb", verify=False)
    assert rows["x/derived/out"]["target"]["real_step"] == pytest.approx(0.03)
    assert refused(convert, entries)


@pytest.mark.parametrize(
    ("threshold", "rule"),
    [(1e-45, "DLA343"), (1e-37, "DLA343"), (1e-35, "SC-9"), (1e-30, "SC-9"), (1e30, "SC-9")],
)
def test_no_threshold_is_too_far_out_to_be_judged(convert, threshold, rule):
    with pytest.raises(UserError) as caught:
        convert([{"match": "stem", "output": {"threshold": threshold}}], verify=False)
    assert rule in {item.rule for item in caught.value.diagnostics.errors}


def test_maps_without_sign_reach_twice_as_far(convert):
    options = {"unsigned_maps": True, "verify": False}
    row = convert([{"match": "stem", "output": {"threshold": 0.7}}], **options)["r0"]
    assert row["target"]["real_step"] * 255 == pytest.approx(0.7)
    row = convert([{"match": "stem", "output": {"step": 0.0123}}], **options)["r0"]
    assert row["target"]["real_step"] == pytest.approx(0.0123)
    row = convert([{"match": "block.clip", "output": {"step": 0.0039}}], **options)["r2"]
    assert row["target"]["real_step"] == pytest.approx(0.0039)
    [(_, _, message)] = refused(convert, [{"match": "r2", "output": {"step": 0.004}}], **options)
    assert "the source clips it at 1" in message


def test_names_of_the_report_are_names(convert):
    rows = convert([{"match": "x", "output": {"threshold": 1}}], verify=False)
    entries = [
        {"match": name, "output": {"threshold": 1}} for name in rows if rows[name]["kind"] == "map"
    ]
    entries += [
        {"match": name, "weights": {"bits": 8}} for name in rows if rows[name]["kind"] == "weight"
    ]
    rows = convert(entries, verify=False)
    assert [name for name, row in rows.items() if not row.get("override")] == []
    assert len({row["override"]["line"] for row in rows.values()}) == len(rows)


def test_parts_of_a_network_that_is_cut_share_the_overrides(convert, source, tmp_path):
    model = onnx.load(source)
    [clip] = [node for node in model.graph.node if node.name == "block.clip"]
    clip.op_type = "Erf"
    del clip.input[1:]
    onnx.save(model, tmp_path / "cut.onnx")
    entries = [
        {"match": "conv1", "output": {"threshold": 7}},
        {"match": "left", "output": {"threshold": 9}},
    ]
    rows = convert(entries, file=tmp_path / "cut.onnx", partition=True)
    assert [name for name, row in rows.items() if row.get("override")] == [
        "r1", "r1/derived/out", "c4"
    ]  # fmt: skip
    entries += [{"match": "block.clip", "output": {"threshold": 1}}]
    rows = convert(entries, file=tmp_path / "cut.onnx", partition=True)
    assert rows["r2/derived/out"]["override"]["text"] == "threshold 1"  # what the host feeds


def test_a_layer_whose_map_has_another_name_is_found(convert, tmp_path):
    """A grouped convolution becomes a dense one, a product of rows a 1x1 convolution."""
    weights = RNG.normal(size=(16, 16)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"], "rows"),
            helper.make_node("Relu", ["m"], ["r"], "relu"),
            helper.make_node("Flatten", ["r"], ["f"], "flat"),
            helper.make_node("Gemm", ["f", "v"], ["y"], "fc"),
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 4, 16])],
        [helper.make_tensor_value_info("y", 1, [1, 16])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(RNG.normal(size=(64, 16)).astype(np.float32), "v"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "rows.onnx")
    np.savez(tmp_path / "rows.npz", x=RNG.normal(size=(4, 4, 16)).astype(np.float32))
    for name in ("rows", "relu", "m", "r"):
        rows = convert(
            [{"match": name, "output": {"threshold": 5.0}}],
            file=tmp_path / "rows.onnx",
            calibrate=tmp_path / "rows.npz",
            allow_violations=True,
        )
        [row] = [row for row in rows.values() if "override" in row]
        assert row["name"] not in {"x/derived/out", "y"}
        assert row["target"]["real_step"] * 127 == pytest.approx(5.0)
        name = row["name"]
    assert name not in {"m", "r"}
    entries = [{"match": name, "output": {"threshold": 4.0}}]
    rows = convert(
        entries,
        file=tmp_path / "rows.onnx",
        calibrate=tmp_path / "rows.npz",
        allow_violations=True,
    )
    assert rows[name]["override"]["text"] == "threshold 4.0"
