"""What makes a network of layers: versions, phases, names, sharing, inputs and outputs."""

import numpy as np
import pytest

from dlaconv.diagnostics import Severity
from dlaconv.errors import UnreadableError
from tests.frontends.caffe.files import caffemodel, error, load, numbers, output, run

X = numbers(1, 3, 6, 6)
KERNEL, BIAS = numbers(2, 3, 3, 3, seed=1), numbers(2, seed=2)


def values(imported):
    return [value.name for node in imported.model.graph for value in node.outputs]


def inputs(imported):
    return [value.name for value in imported.model.graph.inputs]


def outputs(imported):
    return [value.name for value in imported.model.graph.outputs]


def relu(name, bottom, top, more=""):
    return f"layer {{ name: '{name}' type: 'ReLU' bottom: '{bottom}' top: '{top}' {more} }}\n"


def power(name, bottom, top, shift):
    return (
        f"layer {{ name: '{name}' type: 'Power' bottom: '{bottom}' top: '{top}' "
        f"power_param {{ shift: {shift} }} }}\n"
    )


def eltwise(*bottoms):
    read = " ".join(f"bottom: '{name}'" for name in bottoms)
    return f"layer {{ name: 'e' type: 'Eltwise' {read} top: 'e' }}\n"


VERSIONS = {
    0: """
        input: 'data' input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 6
        layers { layer { name: 'pad' type: 'padding' pad: 1 } bottom: 'data' top: 'padded' }
        layers { layer { name: 'c' type: 'conv' num_output: 2 kernelsize: 3 stride: 2
                 weight_filler { type: 'gaussian' } blobs_lr: 1. } bottom: 'padded' top: 'c' }
        layers { layer { name: 'r' type: 'relu' } bottom: 'c' top: 'c' }
        layers { layer { name: 'p' type: 'pool' pool: AVE kernelsize: 2 stride: 2 }
                 bottom: 'c' top: 'p' }
    """,
    1: """
        input: 'data' input_shape { dim: 1 dim: 3 dim: 6 dim: 6 }
        layers { name: 'c' type: CONVOLUTION bottom: 'data' top: 'c' blobs_lr: 1
                 convolution_param { num_output: 2 kernel_size: 3 stride: 2 pad: 1 } }
        layers { name: 'r' type: RELU bottom: 'c' top: 'c' }
        layers { name: 'p' type: POOLING bottom: 'c' top: 'p'
                 pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
    """,
    2: """
        layer { name: 'i' type: 'Input' top: 'data'
                input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
        layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c'
                convolution_param { num_output: 2 kernel_size: 3 stride: 2 pad: 1 } }
        layer { name: 'r' type: 'ReLU' bottom: 'c' top: 'c' }
        layer { name: 'p' type: 'Pooling' bottom: 'c' top: 'p'
                pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
    """,
}


@pytest.mark.parametrize("binary", [0, 1, 2])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_version_is_the_same_network(tmp_path, version, binary):
    text, weights = VERSIONS[version], caffemodel({"c": [KERNEL, BIAS]}, binary)
    found = output(load(tmp_path, text, binary=weights), data=X)
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    conv = np.array(
        [
            [
                [(padded[0, :, i : i + 3, j : j + 3] * kernel).sum() for j in (0, 2, 4)]
                for i in (0, 2, 4)
            ]
            for kernel in KERNEL
        ]
    )
    conv = np.maximum(conv + BIAS[:, None, None], 0)
    wanted = np.array(
        [[[c[i : i + 2, j : j + 2].mean() for j in (0, 2)] for i in (0, 2)] for c in conv]
    )
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VERSIONS[1] + relu("s", "p", "s"), "two versions"),
        (VERSIONS[0].replace("type: 'pool'", "type: 'pool' alpha: 3"), "alpha means nothing"),
        (VERSIONS[0].replace("'relu'", "'relu' } bottom: 'padded' top: 'q'} layers { layer { "
                             "name: 's' type: 'relu'", 1), "only conv and pool"),
        (VERSIONS[1].replace("input: 'data'", "input: 'data' input: 'b'"), "2 inputs"),
        (VERSIONS[1].replace("top: 'p'", "top: 'c'"), ""),
    ],
)  # fmt: skip
def test_what_no_version_has_is_refused(tmp_path, text, words):
    found = load(tmp_path, text, binary=caffemodel({"c": [KERNEL, BIAS]}))
    if words:
        assert any(words in item.message for item in found.diagnostics.errors)
    else:  # in place, although Caffe would not run a pool so
        assert outputs(found) == ["c"]


def test_the_source_of_a_data_layer_of_version_0_is_no_part_of_the_network(tmp_path):
    data = "layers { layer { name: 'd' type: 'hdf5_data' source: 'x' batchsize: 9 } top: 'data' }"
    text = data + VERSIONS[0].partition("\n")[2].partition("\n")[2]
    imported = load(
        tmp_path, text, binary=caffemodel({"c": [KERNEL, BIAS]}, 0), shapes={"data": X.shape}
    )
    assert not imported.diagnostics.errors
    assert inputs(imported) == ["data"]


def test_layers_in_place_are_read_in_order(tmp_path):
    text = power("a", "data", "b", 1) + power("early", "b", "u", 0.5)
    text += power("in", "b", "b", 10) + eltwise("b", "u")
    found = output(load(tmp_path, text, shape=X.shape), data=X)
    np.testing.assert_allclose(found, (X + 11) + (X + 1.5), rtol=1e-5)


def test_values_are_named_after_blobs_the_last_writer_first(tmp_path):
    text = power("a", "data", "b", 1) + relu("r", "b", "b") + power("o", "b", "out", 2)
    imported = load(tmp_path, text, shape=X.shape)
    names = values(imported)
    assert names[1:] == ["b", "out"]
    assert len(set(names)) == 3
    assert outputs(imported) == ["out"]


def test_an_input_changed_in_place_keeps_its_name_for_those_who_feed_it(tmp_path):
    imported = load(tmp_path, power("a", "data", "data", 1), shape=X.shape)
    assert inputs(imported) == ["data"]
    np.testing.assert_allclose(output(imported, data=X), X + 1, rtol=1e-6)


def test_outputs_are_the_blobs_that_nothing_reads(tmp_path):
    text = (
        "layer { name: 'sp' type: 'Split' bottom: 'data' top: 'a' top: 'b' }"
        "layer { name: 'd' type: 'Dropout' bottom: 'a' top: 'kept' }"
        + relu("r", "b", "c")
        + "layer { name: 'sl' type: 'Slice' bottom: 'c' top: 'x' top: 'y' top: 'z' }"
        "layer { name: 'si' type: 'Silence' bottom: 'x' bottom: 'z' }"
    )
    imported = load(tmp_path, text, shape=X.shape)
    assert outputs(imported) == ["kept", "y"]
    found = run(imported, data=X)
    np.testing.assert_array_equal(found["kept"], X)
    np.testing.assert_array_equal(found["y"], X.clip(0)[:, 1:2])


def test_shared_parameters_are_one_constant_and_the_last_stored_counts(tmp_path):
    text = "".join(
        f"layer {{ name: '{name}' type: 'InnerProduct' bottom: '{bottom}' top: '{name}' "
        "param { name: 'w' } param { } inner_product_param { num_output: 4 } }\n"
        for name, bottom in (("a", "data"), ("b", "a"))
    )
    first, last = numbers(4, 4, seed=1), numbers(4, 4, seed=2)
    own = numbers(4, seed=3), numbers(4, seed=4)
    x = numbers(1, 4)
    imported = load(tmp_path, text, {"a": [first, own[0]], "b": [last, own[1]]}, shape=x.shape)
    wanted = (x @ last.T + own[0]) @ last.T + own[1]
    np.testing.assert_allclose(output(imported, data=x), wanted, rtol=1e-5)
    assert len(imported.model.graph.initializers) == 3


@pytest.mark.parametrize(
    ("rule", "there"),
    [
        ("include { phase: TRAIN }", False),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("exclude { phase: TEST }", False),
        ("exclude { phase: TRAIN }", True),
        ("include { min_level: 1 }", False),
        ("include { max_level: -1 }", False),
        ("include { min_level: 0 max_level: 0 }", True),
        ("include { stage: 'deploy' }", False),
        ("include { not_stage: 'deploy' }", True),
        ("exclude { }", False),
    ],
)
def test_rules_are_those_of_inference(tmp_path, rule, there):
    text = power("a", "data", "a", 1) + power("b", "a", "a", 1).replace("top:", f"{rule} top:", 1)
    found = output(load(tmp_path, text, shape=X.shape), data=X)
    np.testing.assert_allclose(found, X + 1 + there, rtol=1e-5)


def test_rules_know_the_level_and_the_stages_of_the_network(tmp_path):
    text = "state { level: 2 stage: 'deploy' }"
    for rule in ("min_level: 2", "stage: 'deploy'", "stage: 'deploy' phase: TEST max_level: 2"):
        text += power(rule.replace("'", ""), "data", "data", 1).replace(
            "top:", f"include {{ {rule} }} top:", 1
        )
    np.testing.assert_allclose(output(load(tmp_path, text, shape=X.shape), data=X), X + 3)


def test_losses_and_measures_are_left_out_with_a_note(tmp_path):
    text = (
        "layer { name: 'd' type: 'Data' top: 'data' top: 'label' transform_param { crop_size: 6 "
        "scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3 } data_param { source: 'x' } }\n"
        "layer { name: 'l' type: 'Silence' bottom: 'label' }\n"
        + power("a", "data", "a", 1)
        + "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'a' bottom: 'label' top: 'loss' }"
        "layer { name: 'acc' type: 'Accuracy' bottom: 'a' bottom: 'label' top: 'acc' }"
    )
    imported = load(tmp_path, text)
    assert (inputs(imported), outputs(imported)) == (["data"], ["a"])
    notes = {item.rule: item for item in imported.diagnostics}
    assert {item.severity for item in notes.values()} == {Severity.NOTE}
    assert "'loss' (SoftmaxWithLoss), 'acc' (Accuracy)" in notes["DLA137"].message
    assert "scale 0.5, mean_value 1,2,3" in notes["DLA136"].message
    assert notes["DLA136"].help.endswith("--bgr --scale 0.5 --mean 0.5,1,1.5")  # mean comes second
    np.testing.assert_allclose(output(imported, data=X), X + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("'MemoryData' memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }",
         (2, 3, 4, 5)),
        ("'ImageData' image_data_param { new_height: 4 new_width: 5 }", (1, 3, 4, 5)),
        ("'ImageData' image_data_param { new_height: 4 new_width: 5 is_color: false }",
         (1, 1, 4, 5)),
        ("'Data' data_param { crop_size: 7 } transform_param { force_gray: true }", (1, 1, 7, 7)),
        ("'Input' input_param { shape { dim: 3 } }", (3,)),
    ],
)  # fmt: skip
def test_layers_of_data_have_the_shape_that_they_say(tmp_path, layer, shape):
    text = f"layer {{ name: 'd' top: 'data' type: {layer} }}" + relu("r", "data", "r")
    [value] = load(tmp_path, text).model.graph.inputs
    assert tuple(value.shape) == shape


@pytest.mark.parametrize("kind", ["Data", "HDF5Data", "Python", "Input", "AnnotatedData"])
def test_an_open_shape_is_asked_for_and_taken(tmp_path, kind):
    text = f"layer {{ name: 'd' top: 'data' type: '{kind}' }}" + relu("r", "data", "r")
    found = error(load(tmp_path, text))
    assert found.rule == "DLA311"
    assert "--set-shape data=" in found.help
    imported = load(tmp_path, text, shapes={"data": X.shape})
    np.testing.assert_array_equal(output(imported, data=X), X.clip(0))


def test_a_given_shape_goes_before_that_of_the_file(tmp_path):
    window = "pooling_param { kernel_size: 3 stride: 2 }"
    text = relu("p", "data", "p", window).replace("ReLU", "Pooling")
    imported = load(tmp_path, text, shape=(10, 3, 9, 9), shapes={"data": X.shape})
    assert output(imported, data=X).shape == (1, 3, 3, 3)


BROKEN = {
    "no layer before it writes 'datum'; did you mean 'data'": relu("r", "datum", "r"),
    "no layer before it writes 'b'": relu("r", "b", "a") + relu("s", "a", "b"),
    "'a' is written by several layers": relu("r", "data", "a") + relu("s", "data", "a"),
    "'x' is written by several layers": (
        "layer { name: 's' type: 'Slice' bottom: 'data' top: 'x' top: 'x' }"
    ),
    "rules to include and to exclude": relu("r", "data", "r", "include { } exclude { }"),
    "2 tops, where ReLU has 1": relu("r", "data", "a' top: 'b"),
    "1 tops, where Silence has none": relu("s", "data", "s").replace("ReLU", "Silence"),
    "stays in phase TRAIN": relu("r", "data", "r", "phase: TRAIN").replace("ReLU", "Dropout"),
    "computes nothing": "layer { name: 's' type: 'Silence' bottom: 'data' }",
}


@pytest.mark.parametrize("words", BROKEN)
def test_what_is_no_network_is_refused(tmp_path, words):
    found = load(tmp_path, BROKEN[words], shape=X.shape).diagnostics.errors
    assert words in found[0].message
    assert found[0].location.file.endswith("net.prototxt")


def test_all_bad_layers_are_reported_and_only_they(tmp_path):
    text = relu("a", "data", "a").replace("ReLU", "Strange") + relu("b", "a", "b")
    text += "layer { name: 'c' type: 'Tile' bottom: 'data' top: 'c' }" + relu("d", "c", "d")
    found = load(tmp_path, text, shape=X.shape).diagnostics.errors
    assert [item.location.layer for item in found] == ["a", "c"]


def test_two_layers_with_weights_need_two_names(tmp_path):
    scale = "layer { name: 's' type: 'Scale' bottom: '%s' top: '%s' }"
    text = scale % ("data", "a") + scale % ("a", "b")
    found = error(load(tmp_path, text, {"s": [numbers(3)]}, shape=X.shape))
    assert "two layers with weights" in found.message


@pytest.mark.parametrize("text", ["", "  # nothing\n", "name: 'x'", "\0\1\2"])
def test_a_file_without_a_network_ends_in_one_message(tmp_path, text):
    with pytest.raises(UnreadableError) as caught:
        load(tmp_path, text)
    assert [item.rule for item in caught.value.diagnostics] == ["DLA418"]


def test_thousands_of_errors_end_early(tmp_path):
    text = "".join(relu(f"r{i}", f"missing{i}", f"t{i}") for i in range(20000))
    found = load(tmp_path, text, shape=X.shape).diagnostics
    assert 20 < len(found) < 200
