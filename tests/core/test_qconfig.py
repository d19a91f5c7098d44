"""``--qconfig``: what becomes of overrides, from the file to the converted network."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.cli import run
from dlaconv.driver.qconfig import read_overrides
from dlaconv.errors import UnreadableError, UsageError, UserError
from dlaconv.options import Options

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A float network: a chain, a clip, an Add, a pool, a Concat and a Tanh."""
    weights = {
        name: RNG.normal(size=size) * np.sqrt(2 / np.prod(size[1:]))
        for name, size in {
            "w0": (16, 3, 3, 3), "w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3),
            "w3": (16, 16, 3, 3), "w4": (16, 16, 1, 1), "w5": (16, 16, 1, 1), "w6": (16, 32, 1, 1),
        }.items()
    }  # fmt: skip
    weights["w1"][3] *= 8  # a channel unlike the others
    weights |= {"zero": np.array(0), "one": np.array(1)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], "stem", pads=[1] * 4),
        node("Relu", ["c0"], ["r0"], "stem.relu"),
        node("Conv", ["r0", "w1"], ["c1"], "conv1", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "block.conv2", pads=[1] * 4),
        node("Clip", ["c2", "zero", "one"], ["r2"], "block.clip"),
        node("Conv", ["r2", "w3"], ["c3"], "block.conv3", pads=[1] * 4),
        node("Add", ["c3", "r1"], ["s"], "block.add"),
        node("MaxPool", ["s"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w4"], ["c4"], "left"),
        node("Conv", ["p", "w5"], ["c5"], "right"),
        node("Concat", ["c4", "c5"], ["both"], "concat", axis=1),
        node("Conv", ["both", "w6"], ["c6"], "last"),
        node("Tanh", ["c6"], ["y"], "tanh"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", 1, [1, 16, 8, 8])],
        [numpy_helper.from_array(np.float32(array), name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("source") / "net.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x=RNG.normal(size=(8, 3, 16, 16)).astype(np.float32))
    return path


@pytest.fixture
def convert(source, data, tmp_path):
    """Converts with overrides; returns the report's rows of maps and weights by name."""

    def call(entries, *, calibrate=data, file=source, **options):
        path = tmp_path / "net.yaml"
        path.write_text(json.dumps({"version": 1, "nodes": entries}, indent=1))
        options = Options(qconfig=str(path), calibrate=calibrate, **{"samples": 1} | options)
        target = tmp_path / "net.dla.onnx"
        found = dlaconv.convert(file, target, options=options)
        call.diagnostics, call.model = found.diagnostics, onnx.load(target)
        return {row["name"]: row for row in found.report["tensors"]}

    return call


def refused(convert, entries, **options):
    """The errors of a conversion that must not write anything: rule, line, message."""
    with pytest.raises(UsageError) as caught:
        convert(entries, **options)
    found = caught.value.diagnostics.errors
    assert all(item.location.file.endswith("net.yaml") for item in found)
    return [(item.rule, item.location.line, item.message) for item in found]


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


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "kl"])
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


def integers(model, name):
    """The integers and scales of a layer of the converted file."""
    [node] = [node for node in model.graph.node if node.name == name]
    tensors = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    values = tensors[node.input[1]].astype(np.float64)
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    scales = np.array(attributes["weight_ch_scales"], np.float64).reshape(-1, 1, 1, 1)
    return np.rint(values / scales), scales


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


def test_what_cannot_be_is_listed_with_its_line_and_nothing_is_written(convert, tmp_path):
    found = refused(
        convert,
        [
            {"match": "pool", "output": {"threshold": 2}},
            {"match": "relu1", "weights": {"bits": 4}},
            {"match": "block.clip", "output": {"threshold": 1.5}},
            {"match": "r2", "output": {"step": 0.01}},
            {"match": "conv1", "weights": {"bits": 9}},
            {"match": "x", "output": {"step": 0.03}},
            {"match": "tanh", "output": {"step": 0.03}},
            {"match": "left", "output": {"step": 0.03}},
            {"match": "right", "output": {"threshold": 4.0}},
        ],
    )
    words = {
        ("DLA342", 4): "match 'pool' finds layers, but no map",
        ("DLA342", 10): "match 'relu1' finds layers, but no weights",
        ("DLA343", 22): "step 0.01 is impossible for 'r2': the source clips it at 1",
        ("DLA343", 28): "bits 9 is impossible for 'conv1': ACCESS has weights of 8 bits",
        ("DLA343", 34): "step 0.03 is impossible for 'x': it is no power of two",
        ("DLA343", 40): "step 0.03 is impossible for 'y': it is no power of two",
        ("DLA343", 52): "threshold 4.0 is impossible for 'c5': it is tied to 'c4', for which",
    }
    assert {key[:2] for key in found} == set(words)
    for rule, line, message in found:
        assert message.startswith(words[rule, line]), message
    assert not list(tmp_path.glob("*.onnx"))


def test_a_threshold_beyond_a_clip_is_impossible(convert):
    [(rule, _, message)] = refused(convert, [{"match": "c2", "output": {"threshold": 1.01}}])
    assert rule == "DLA343"
    assert "the source clips it at 1," in message
    row = convert([{"match": "c2", "output": {"threshold": 1.0}}])["r2"]
    assert row["target"]["real_step"] == pytest.approx(1 / 127)


def test_steps_of_other_policies_are_powers_of_two(convert):
    entries = [{"match": "left", "output": {"step": 0.03}}]
    [(_, _, message)] = refused(convert, entries, policy="ceil")
    assert "as all steps are with --scale-policy ceil" in message
    entries = [{"match": "left", "output": {"step": 0.0625}}]
    assert convert(entries, policy="ceil")["c4"]["target"]["step"] == 0.0625


def test_two_steps_for_one_are_impossible(convert):
    entries = [
        {"match": "left", "output": {"step": 0.03}},
        {"match": "right", "output": {"step": 0.06}},
    ]
    [(_, line, message)] = refused(convert, entries)
    assert line == 10
    assert "'c4', for which line 4 has step 0.03: the hardware wants one step" in message


def test_an_input_takes_any_step_where_the_host_is_told_of_it(convert):
    entries = [{"match": "x", "output": {"step": 0.03}}]
    rows = convert(entries, io="absorb", verify=False)
    assert rows["x/derived/out"]["target"]["real_step"] == pytest.approx(0.03)
    assert refused(convert, entries)


def test_steps_that_an_add_ties_are_powers_of_two_apart(convert, tmp_path):
    """The Add is too dear to become a convolution."""
    weights = [RNG.normal(size=(16, 16, 1, 1)).astype(np.float32) for _ in range(3)]
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w0"], ["a"], "one"),
            node("Conv", ["x", "w1"], ["b"], "two"),
            node("Add", ["a", "b"], ["s"], "sum"),
            node("Conv", ["s", "w2"], ["y"], "three"),
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 16, 8, 8])],
        [numpy_helper.from_array(array, f"w{n}") for n, array in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "sum.onnx")
    np.savez(tmp_path / "sum.npz", x=RNG.normal(size=(4, 16, 8, 8)).astype(np.float32))
    files = {"file": tmp_path / "sum.onnx", "calibrate": tmp_path / "sum.npz"}

    def entries(*steps):
        return [
            {"match": name, "output": {"step": s}} for name, s in zip("abs", steps, strict=True)
        ]

    rows = convert(entries(0.0371, 0.0742, 0.1484), **files)
    assert rows["b"]["target"]["real_step"] == pytest.approx(0.0742)
    found = refused(convert, entries(0.0371, 0.05, 0.07), **files)
    assert [line for _, line, _ in found] == [10, 16]
    assert "it is tied to 'a', for which line 4 has step 0.0371" in found[0][2]
    assert "powers of two apart" in found[0][2]


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


def test_methods_need_data(convert):
    entries = [
        {"match": "*", "output": {"threshold": 1}},
        {"match": "r1", "output": {"ranges": "kl"}},
    ]
    [(_, _, message)] = refused(convert, entries, calibrate=None)
    assert message == "ranges kl is impossible without calibration data"


def test_names_that_match_nothing_are_all_listed_before_anything_is_run(convert, tmp_path):
    entries = [
        {"match": "convl", "output": {"threshold": 1}},
        {"match": "block", "output": {"threshold": 1}},
        {"op": "Convolution", "weights": {"bits": 4}},
        {"match": "conv1", "op": "Relu", "weights": {"bits": 4}},
        {"match": "r1", "output": {"threshold": 1}},
    ]
    found = refused(convert, entries, calibrate=tmp_path / "missing.npz")
    assert [(rule, line) for rule, line, _ in found] == [
        ("DLA342", 4), ("DLA342", 10), ("DLA342", 16), ("DLA342", 22)
    ]  # fmt: skip


def test_patterns_that_match_nothing_are_errors_too(convert, tmp_path):
    entries = [
        {"match": "nix*", "output": {"threshold": 1}},
        {"match": "conv1/nix", "output": {"threshold": 1}},
        {"match": "stem", "output": {"threshold": 1}},
    ]
    found = refused(convert, entries)
    assert [(rule, line) for rule, line, _ in found] == [("DLA342", 4), ("DLA342", 10)]
    assert not list(tmp_path.glob("*.onnx"))


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


def quantised(source, tmp_path):
    """The network with QuantizeLinear and DequantizeLinear behind conv1 and around its weights."""
    model = onnx.load(source)
    constants = {"qs": np.float32(0.05), "qz": np.int8(0), "ws": np.float32(0.01)}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    node = helper.make_node
    nodes = []
    for item in model.graph.node:
        if item.name == "conv1":
            nodes.append(node("QuantizeLinear", ["w1", "ws", "qz"], ["wq"], "quantise_w"))
            nodes.append(node("DequantizeLinear", ["wq", "ws", "qz"], ["wd"], "dequantise_w"))
            item.input[1] = "wd"
        if item.name == "relu1":
            item.output[0] = "real"
        nodes.append(item)
        if item.name == "relu1":
            nodes.append(node("QuantizeLinear", ["real", "qs", "qz"], ["rq"], "quantise"))
            nodes.append(node("DequantizeLinear", ["rq", "qs", "qz"], ["r1"], "dequantise"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path = tmp_path / "mixed.onnx"
    onnx.save(model, path)
    return path


def test_what_the_source_quantises_stays(convert, source, tmp_path):
    file = quantised(source, tmp_path)
    entries = [
        {"match": "relu1", "output": {"threshold": 3}},
        {"match": "conv1", "weights": {"bits": 4}},
    ]
    found = refused(convert, entries, file=file)
    assert [(rule, line) for rule, line, _ in found] == [("DLA343", 4), ("DLA343", 10)]
    assert "the source quantises it, and its integers are kept" in found[0][2]
    assert "the source quantises them" in found[1][2]


def test_a_pattern_leaves_what_the_source_quantises_with_a_note(convert, source, tmp_path):
    entries = [{"match": "*", "output": {"ranges": "minmax"}, "weights": {"ranges": "mse"}}]
    rows = convert(entries, file=quantised(source, tmp_path))
    notes = [item for item in convert.diagnostics if item.rule == "DLA344"]
    assert [str(item.severity) for item in notes] == ["note", "note"]
    assert "does not change the weights of 'conv1'" in notes[1].message
    assert not rows["conv1/weights"].get("override")
    assert rows["block.conv2/weights"]["override"]["text"] == "ranges mse"
    assert rows["r2"]["override"]["text"] == "ranges minmax"


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


def test_what_the_host_runs_has_no_map(convert, source, tmp_path):
    model = onnx.load(source)
    model.graph.node[-1].op_type = "Softmax"
    onnx.save(model, tmp_path / "tail.onnx")
    entries = [{"match": "tanh", "output": {"threshold": 1}}]
    [(rule, _, message)] = refused(convert, entries, file=tmp_path / "tail.onnx")
    assert rule == "DLA342"
    assert "run on the host" in message


def bad_file(tmp_path, data):
    path = tmp_path / "bad.yaml"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version: 1\nnodes: [\xff]", "UTF-8"),
        (b"# " + b"x" * (1 << 18), "more than 262,144 bytes"),
        (b"version: [", "not YAML"),
        (b"", "empty"),
        (b"a: &a [*a]", "the alias *a"),
        (b"a: !!python/object/apply:os.system ['exit 1']", "the tag"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_unreadable(tmp_path, data, words):
    with pytest.raises(UnreadableError) as caught:
        read_overrides(bad_file(tmp_path, data))
    found = list(caught.value.diagnostics)
    assert any(item.rule == "DLA340" and words in item.message for item in found)


def test_all_problems_of_a_file_are_listed(tmp_path):
    text = b"version: 1\nversion: 1\nnodes:\n- match: &x a\n  output: {step: -1}\n- wieghts: 1\n"
    with pytest.raises(UnreadableError) as caught:
        read_overrides(bad_file(tmp_path, text))
    found = [(item.rule, item.location.line) for item in caught.value.diagnostics]
    assert found == [("DLA340", 2), ("DLA340", 4), ("DLA341", 5), ("DLA341", 6), ("DLA341", 6),
                     ("DLA341", 6)]  # fmt: skip


def test_a_folder_a_device_and_nothing_are_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "missing.yaml", "/dev/null"):
        with pytest.raises(UnreadableError):
            read_overrides(type(tmp_path)(path))


def test_the_command_line_takes_it(source, data, tmp_path, capsys):
    path = tmp_path / "net.yaml"
    path.write_text("version: 1\nnodes:\n  - match: conv1\n    output: {threshold: 3}\n")
    target = tmp_path / "net.dla.onnx"
    call = ["from-onnx", str(source), "-o", str(target), "--calibrate", str(data), "-q"]
    assert run([*call, "--qconfig", str(path)]) == 0
    report = json.loads(target.with_suffix(".json").read_text("utf-8"))
    assert report["options"]["qconfig"] == str(path)
    [row] = [row for row in report["tensors"] if "override" in row]
    assert row["override"] == {"file": str(path), "line": 3, "text": "threshold 3"}
    path.write_text("version: 1\nnodes:\n  - match: conv1\n    output: {treshold: 3}\n")
    capsys.readouterr()
    assert run([*call, "--qconfig", str(path)]) == 2
    shown = capsys.readouterr().err
    assert f"--> {path}:4" in shown
    assert "did you mean 'threshold'?" in shown
    assert run([*call[:3], str(path.with_suffix(".json")), "--qconfig", str(path)]) == 2


def test_the_output_may_not_overwrite_it(source, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("version: 1\nnodes:\n  - match: conv1\n    output: {threshold: 3}\n")
    with pytest.raises(UsageError) as caught:
        dlaconv.convert(source, path, options=Options(qconfig=path))
    assert [item.rule for item in caught.value.diagnostics] == ["DLA421"]


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


def test_a_network_that_is_quantised_throughout_leaves_nothing_to_override(convert, tmp_path):
    constants = {"s": np.float32(0.05), "z": np.int8(0), "w": RNG.integers(-9, 9, (16, 16, 1, 1))}
    constants["w"] = constants["w"].astype(np.int8)
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["xq"], "quantise_x"),
            node("DequantizeLinear", ["xq", "s", "z"], ["xd"], "dequantise_x"),
            node("DequantizeLinear", ["w", "s", "z"], ["wd"], "dequantise_w"),
            node("Conv", ["xd", "wd"], ["c"], "conv"),
            node("QuantizeLinear", ["c", "s", "z"], ["cq"], "quantise_c"),
            node("DequantizeLinear", ["cq", "s", "z"], ["y"], "dequantise_c"),
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 16, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "quantised.onnx")
    entries = [{"match": "*", "output": {"threshold": 1}, "weights": {"bits": 4}}]
    found = refused(convert, entries, file=tmp_path / "quantised.onnx", calibrate=None)
    assert [rule for rule, _, _ in found] == ["DLA343", "DLA343"]
    assert "the source quantises it, and its integers are kept" in found[0][2]


@given(
    st.binary(max_size=80)
    | st.text("versionmatch_output[]{}:,-?&*!|'\"#\n 1.", max_size=80).map(str.encode)
    | st.lists(
        st.sampled_from(
            [
                "version: 1", "nodes:", "- match: a", "  op: b", "  output:", "    step: 1e-3",
                "    threshold: -1", "  weights: {bits: 4}", "  output: {ranges: kl}", "- {}", "&a",
            ]
        )
    ).map(lambda lines: "\n".join(lines).encode())
)  # fmt: skip
def test_any_file_is_read_or_refused_with_reasons(tmp_path_factory, data):
    entries, rules = [], set()
    try:
        entries = read_overrides(bad_file(tmp_path_factory.getbasetemp(), data)).entries
    except UserError as error:
        rules = {item.rule for item in error.diagnostics}
    assert bool(entries) != bool(rules)
    assert rules <= {"DLA340", "DLA341"}
