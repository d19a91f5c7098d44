"""Damaged, hostile and absurd files: a result or diagnostics, never anything else."""

import resource
import subprocess
import sys

import numpy as np
import pytest

from dlaconv.errors import UserError
from dlaconv.frontends.caffe import load_caffe, looks_like_caffe
from tests.frontends.caffe.files import INPUT, caffemodel, numbers

TEXT = (
    INPUT.format("dim: 1 dim: 3 dim: 8 dim: 8")
    + """
    layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' param { name: "w" }
      convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 1 weight_filler { } } }
    layer { name: 'b' type: 'BatchNorm' bottom: 'c' top: 'c' batch_norm_param { eps: 1e-3 } }
    layer { name: 's' type: 'Scale' bottom: 'c' top: 'c' scale_param { bias_term: true } }
    layer { name: 'r' type: 'PReLU' bottom: 'c' top: 'r' include { phase: TEST } }
    layer { name: 'p' type: 'Pooling' bottom: 'r' top: 'p'
      pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
    layer { name: 'e' type: 'Eltwise' bottom: 'p' bottom: 'p' top: 'e'
      eltwise_param { coeff: 1 coeff: -0.5 } }
    layer { name: 'x' type: 'Slice' bottom: 'e' top: 'm' top: 'n' slice_param { axis: 1 } }
    layer { name: 'k' type: 'Concat' bottom: 'n' bottom: 'm' top: 'k' }
    layer { name: 't' type: 'Reshape' bottom: 'k' top: 't' reshape_param { shape { dim: 0
      dim: 4 dim: -1 } } }
    layer { name: 'f' type: 'InnerProduct' bottom: 't' top: 'f'
      inner_product_param { num_output: 5 axis: -1 } }
    """
)
LAYERS = {
    "c": [numbers(4, 3, 3, 3), numbers(4)],
    "b": [numbers(4), abs(numbers(4)), np.ones(1)],
    "s": [numbers(4), numbers(4)],
    "r": [numbers(4)],
    "f": [numbers(5, 25), numbers(5)],
}


def read(folder, text, binary):
    """Reads two files; what a user can mend is fine, all else is not."""
    prototxt, model = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_bytes(text)
    model.write_bytes(binary)
    try:
        return load_caffe(prototxt, model)
    except UserError:
        return None


def test_the_network_itself_is_read(tmp_path):
    assert not read(tmp_path, TEXT.encode(), caffemodel(LAYERS)).diagnostics.errors


@pytest.mark.parametrize("seed", range(6))
def test_damaged_text_ends_in_diagnostics(tmp_path, seed):
    random, binary = np.random.default_rng(seed), caffemodel(LAYERS)
    words = [
        word.encode()
        for word in [
            "0",
            "-1",
            "4294967295",
            "{",
            "}",
            ":",
            "[",
            "]",
            "'",
            '"',
            "#",
            "nan",
            "1e40",
            "\\",
            "AVE",
        ]
    ]
    outcomes = set()
    for _ in range(60):
        text = bytearray(TEXT.encode())
        for _ in range(random.integers(1, 4)):
            begin = int(random.integers(len(text)))
            end = begin + int(random.integers(0, 6))
            text[begin:end] = words[random.integers(len(words))]
        imported = read(tmp_path, bytes(text), binary)
        outcomes.add(imported is None or bool(imported.diagnostics.errors))
    assert True in outcomes


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_caffemodel_ends_in_diagnostics(tmp_path, seed):
    random, whole = np.random.default_rng(seed), caffemodel(LAYERS)
    for _ in range(60):
        binary = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            binary[random.integers(len(binary))] = random.integers(256)
        read(tmp_path, TEXT.encode(), bytes(binary[: random.integers(len(binary))]))
        read(tmp_path, TEXT.encode(), bytes(binary))


def test_every_cut_of_a_caffemodel_is_refused(tmp_path):
    whole = caffemodel(LAYERS)
    for end in range(0, len(whole), 7):
        imported = read(tmp_path, TEXT.encode(), whole[:end])
        assert imported is None or imported.diagnostics.errors


def bomb(kind, parameters, bottoms=("data",)):
    read = " ".join(f"bottom: '{name}'" for name in bottoms)
    return f"layer {{ name: 'p' type: '{kind}' {read} top: 'p' {parameters} }}"


BOMBS = [
    bomb("Pooling", "pooling_param { pool: AVE kernel_size: 2147483649 pad: 2147483648 }"),
    bomb("Tile", "tile_param { tiles: 2147483647 }"),
    bomb("DummyData", "dummy_data_param { shape { dim: 100000 dim: 100000 } }", ()),
    bomb("PriorBox", "prior_box_param { min_size: 1 aspect_ratio: 2 }", ("b", "data")),
    bomb("Upsample", "upsample_param { scale: 60000 }"),
    bomb("LRN", "lrn_param { local_size: 4294967295 }"),
    bomb("Interp", "interp_param { height: 65536 width: 65536 }"),
    bomb("Input", "input_param { shape { dim: 9223372036854775807 } }", ()),
]


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_few_words_do_not_ask_for_much_memory(tmp_path, text):
    big = "layer { name: 'b' type: 'Input' top: 'b' input_param { shape { dim: 1 dim: 1 "
    big += "dim: 32768 dim: 32768 } } }"
    source = INPUT.format("dim: 1 dim: 3 dim: 8 dim: 8") + big + text
    (tmp_path / "net.prototxt").write_text(source)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({}))
    script = (
        "from pathlib import Path; from dlaconv.frontends.caffe import load_caffe\n"
        "[error] = load_caffe(Path('net.prototxt'), Path('net.caffemodel')).diagnostics.errors\n"
        "print(error.rule)"
    )
    limit = 3 << 30

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=bounded,
        check=False,
    )
    assert done.stdout.strip() == "DLA108", done.stderr


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"name: 'x'\nlayer { }", True),
        (b"# comment\r\n\r\n\xef\xbb\xbfinput: 'data' layer { }", True),
        (b"layers { name: 'x' }", True),
        (b"net: 'train.prototxt'\nbase_lr: 0.1", False),
        (b"\x08\x07\x12\x00layer { }", False),
        (b"PK\x03\x04", False),
        (b"", False),
    ],
)
def test_a_prototxt_is_told_from_other_files(tmp_path, content, looks):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert looks_like_caffe(path) is looks
