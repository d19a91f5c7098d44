"""Formats that are damaged, absurd or of another layer: a result or diagnostics, nothing else."""

import json
import re

import numpy as np
import pytest

import dlaconv
from dlaconv.errors import UserError
from dlaconv.options import Options
from tests.frontends.caffe.files import INPUT, caffemodel, numbers
from tests.frontends.caffe.quantised import convolution, fixed, in_place, named, thresholds

HEAD = INPUT.format("dim: 1 dim: 3 dim: 8 dim: 8")
AVE = "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"
PRODUCT = "inner_product_param { num_output: 5 }"
BLOBS = {
    "c": [numbers(4, 3, 3, 3) / 3, numbers(4)],
    "n": [numbers(4), abs(numbers(4)) + 0.1, np.ones(1)],
    "s": [numbers(4), numbers(4)],
    "d": [numbers(4, 4, 1, 1), numbers(4)],
    "f": [numbers(5, 64) / 8, numbers(5)],
}


def network(first, norm, maps, full=None):
    """Every kind of layer that has formats, with those of one mode."""
    return (
        HEAD
        + convolution("c", "data", 4, first)
        + in_place("n", "BatchNorm", "c", norm)
        + in_place("s", "Scale", "c", "scale_param { bias_term: true } " + norm)
        + in_place("r", "ReLU", "c", "relu_param { negative_slope: 0.125 }")
        + named("p", "Pooling", AVE + maps, ["c"])
        + convolution("d", "p", 4, first, "kernel_size: 1")
        + named("e", "Eltwise", maps, ["p", "d"])
        + named("k", "Concat", "", ["e", "d"])
        + named("x", "Slice", "", ["k"], ["y", "z"])
        + named("f", "InnerProduct", PRODUCT + (full or first), ["y"])
    )  # fmt: skip


RISTRETTO = "quantization_param { bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 4 "
RISTRETTO += "fl_layer_out: 4 fl_params: 6 }"
NETWORKS = {
    "DynamicFixed": network(fixed(4, 4, 6), fixed(4, 4, scale_beta_fl=4), fixed(4, 4)),
    "Xilinx": network(
        thresholds(4, 4, [1] * 4), thresholds(4, 4), thresholds(4, 4), thresholds(4, 4, [2] * 5)
    ),
    "Ristretto": network(RISTRETTO, "", "")
    .replace("'Convolution'", "'ConvolutionRistretto'")
    .replace("'InnerProduct'", "'FcRistretto'"),
}
NUMBERS = [
    "0", "-1", "1", "2", "6", "31", "32", "33", "126", "127", "-126", "-127", "4294967295",
    "-2147483648", "1e40", "1e-40", "1e-38", "nan", "inf", "-inf", "0x10", "true", "''",
]  # fmt: skip
FIELDS = [
    "bw_layer_in", "bwlayer_in", "fl_layer_in", "fl_layer_out", "fl_params", "th_layer_in",
    "th_layer_out", "th_params", "bw_params", "quant_type", "scale_beta_fl", "precision",
]  # fmt: skip
TYPES = [
    "Convolution", "ConvolutionRistretto", "Deconvolution", "DepthwiseConvolution", "BatchNorm",
    "Scale", "Eltwise", "LRN", "Concat", "Silence", "Slice", "Input", "Xilinx", "DynamicFixed",
]  # fmt: skip
VALUES = [
    None, -1, 0, 8, 0.5, 2**80, float("nan"), float("inf"), True, "x", {}, [], [1, 2], [[1]],
    [0] * 4,
]  # fmt: skip


def mutant(text, random):
    """A text with one to three other numbers, fields, words or pieces."""
    tokens = re.findall(r"'[^']*'|\"[^\"]*\"|[\w.+-]+|\s+|.", text)
    for _ in range(random.integers(1, 4)):
        kind, words = [
            (r"-?[\d.]+(e-?\d+)?", NUMBERS),
            (r"(bw|fl|th|scale)_(layer|params|beta).*|quant_type", FIELDS),
            (r"['\"].*", [f"'{kind}'" for kind in TYPES]),
        ][random.integers(3)]
        places = [index for index, token in enumerate(tokens) if re.fullmatch(kind, token)]
        if places:
            tokens[places[random.integers(len(places))]] = words[random.integers(len(words))]
        if random.random() < 0.2:
            begin = random.integers(len(tokens))
            del tokens[begin : begin + random.integers(1, 9)]
    return "".join(tokens)


def outcome(folder, text, binary, *, whole, **arguments):
    """Reads two files, or converts them; what a user can mend is fine, all else is not."""
    files = [folder / "net.prototxt", folder / "net.caffemodel"]
    files[0].write_text(text, "utf-8")
    files[1].write_bytes(binary)
    try:
        if whole:
            options = Options(calibrate="random", verify=False)
            dlaconv.convert(files, frontend="caffe", options=options, **arguments)
            return "converted"
        found = dlaconv.load(files, "caffe", **arguments).diagnostics.errors
    except UserError as error:
        found = error.diagnostics.errors
        assert found
    assert all(item.rule and item.message for item in found)
    return "refused" if found else "read"


@pytest.mark.parametrize("mode", NETWORKS)
def test_the_networks_themselves_are_read(tmp_path, mode):
    assert outcome(tmp_path, NETWORKS[mode], caffemodel(BLOBS), whole=False) == "read"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", NETWORKS)
def test_damaged_formats_end_in_diagnostics(tmp_path, mode, seed):
    random, binary = np.random.default_rng(seed), caffemodel(BLOBS)
    found = {
        outcome(tmp_path, mutant(NETWORKS[mode], random), binary, whole=number % 12 == 0)
        for number in range(60)
    }
    assert {"refused", "read"} <= found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", NETWORKS)
def test_damaged_weights_of_quantised_layers_end_in_diagnostics(tmp_path, mode, seed):
    random, whole = np.random.default_rng(seed), caffemodel(BLOBS)
    special = [np.float32(x).tobytes() for x in ("nan", "inf", "-inf", "3e38", "1e-45", "0")]
    for number in range(40):
        binary = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            begin = int(random.integers(len(binary) - 4))
            binary[begin : begin + 4] = special[random.integers(len(special))]
        outcome(tmp_path, NETWORKS[mode], bytes(binary), whole=number % 12 == 0)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_thresholds_end_in_diagnostics(tmp_path, seed):
    random, binary = np.random.default_rng(seed), caffemodel(BLOBS)
    text = network("", "", "")
    path, found = tmp_path / "quant.json", set()
    for number in range(60):
        layers = [
            {"name": name, "bw_layer_in": 8, "bw_layer_out": 8, "bw_params": 8,
             "th_layer_in": 4.0, "th_layer_out": 4.0, "th_params": [1.0] * len(BLOBS[name][0])}
            for name in ("c", "d", "f")
        ]  # fmt: skip
        for _ in range(random.integers(0, 3)):
            layer = layers[random.integers(3)]
            key = list(layer)[random.integers(len(layer))]
            layer[key] = VALUES[random.integers(len(VALUES))]
        content = json.dumps({"network": layers})
        if random.random() < 0.2:
            begin = int(random.integers(len(content)))
            content = content[:begin] + "[" * int(random.integers(1, 100_000))
        path.write_text(content, "utf-8")
        found.add(outcome(tmp_path, text, binary, whole=number % 12 == 0, thresholds=path))
    assert {"refused", "read"} <= found
