"""``--qconfig``: overrides that cannot be, each with its line and the reason."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.core.qconfig.networks import RNG, quantised, refused


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


def test_what_the_host_runs_has_no_map(convert, source, tmp_path):
    model = onnx.load(source)
    model.graph.node[-1].op_type = "Softmax"
    onnx.save(model, tmp_path / "tail.onnx")
    entries = [{"match": "tanh", "output": {"threshold": 1}}]
    [(rule, _, message)] = refused(convert, entries, file=tmp_path / "tail.onnx")
    assert rule == "DLA342"
    assert "run on the host" in message


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
