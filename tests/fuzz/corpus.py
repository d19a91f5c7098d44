"""The files that are mutated: small networks of every source, and ACCESS files made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

import dlaconv
from dlaconv.errors import UserError
from dlaconv.plugins import Plugins
from tests import networks
from tests.fuzz import layered, oddities, plain

QONNX, ONNX, ACCESS = "qonnx", "onnx", "access"
KERAS, CAFFE = "keras", "caffe"
SUBJECTS = (QONNX, ONNX, ACCESS, KERAS, CAFFE)
MODEL = "net.onnx"
_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("tests/data/qonnx", "examples/digits")
_PLAIN_FOLDERS = ("examples/digits_float",)
_LARGEST = 150_000
_WAYS = (
    {},
    {"convention": "int-per-real", "io": "absorb"},
    {"unsigned_maps": True, "policy": "nearest"},
)
"""Options that the ACCESS files are made with, in turn."""


@dataclass(frozen=True)
class Seed:
    """A file to mutate.

    Attributes:
        name: what the report calls it.
        data: its bytes.
        source: of an ACCESS file, the QONNX file it was made of.
        file: what it is called on disk.
        beside: further files of the network, by name.
        shapes: shapes of its inputs, where the file is no ONNX.
    """

    name: str
    data: bytes
    source: bytes = b""
    file: str = MODEL
    beside: Mapping[str, bytes] = field(default_factory=dict)
    shapes: Mapping[str, list[int]] = field(default_factory=dict)


Corpus = dict[str, list[Seed]]
"""The files by subject."""


def build(folders: Sequence[Path] = ()) -> Corpus:
    """The corpus: files of this repository, generated networks, and those in ``folders``.

    Files above 150,000 bytes are left out.
    """
    sources = [*_generated(), *_found([*(_ROOT / name for name in _FOLDERS), *folders])]
    sources.sort(key=lambda seed: seed.name)
    plains = [*_seeds(plain.models()), *_found(_ROOT / name for name in _PLAIN_FOLDERS)]
    return {
        QONNX: sources,
        ONNX: sorted(plains, key=lambda seed: seed.name),
        ACCESS: [*_converted(sources), *_foreign(sources)],
        KERAS: list(_keras()),
        CAFFE: list(_caffe()),
    }


def _generated() -> Iterator[Seed]:
    style = networks.Style
    built = {
        "chain": networks.chain(2, 0, size=8),
        "chain-pot": networks.chain(1, 1, style(power_of_two=True, bias="none"), size=6),
        "chain-4-bit": networks.chain(2, 2, style(bits=4, weight_bits=4, unsigned=True), size=6),
        "residual": networks.residual(1, 3, size=8),
        "residual-own": networks.residual(1, 4, style(shared=False, bias="8"), size=6),
        "varied": networks.varied(5, size=8),
        "varied-unsigned": networks.varied(6, style(unsigned=True, per_channel=False), size=8),
    }
    yield from _seeds({name: net.model for name, net in built.items()} | oddities.models())


def _seeds(models: Mapping[str, onnx.ModelProto]) -> Iterator[Seed]:
    for name, model in models.items():
        yield Seed(f"generated/{name}", model.SerializeToString(deterministic=True))


def _keras() -> Iterator[Seed]:
    for name, data in layered.keras().items():
        shapes = {"x": [1, 8, 8, 16]}
        yield Seed(f"generated/{name}", data, file=f"net{Path(name).suffix}", shapes=shapes)
    for path in sorted((_ROOT / "examples/digits_qkeras").glob("*.h5")):
        shapes = {"image": [1, 8, 8, 1]}
        yield Seed(f"digits_qkeras/{path.name}", path.read_bytes(), file="net.h5", shapes=shapes)


def _caffe() -> Iterator[Seed]:
    folder = _ROOT / "examples/digits_caffe"
    binary = (folder / "digits.caffemodel").read_bytes()
    found = {f"generated/{name}": (*both, 16) for name, both in layered.caffe().items()}
    for path in sorted(folder.glob("*.prototxt")):
        found[f"{folder.name}/{path.name}"] = path.read_bytes(), binary, 1
    for name, (text, weights, channels) in found.items():
        shapes = {"data": [1, channels, 8, 8]}
        yield Seed(name, text, b"", "net.prototxt", {layered.WEIGHTS: weights}, shapes)


def _found(folders: Iterable[Path]) -> Iterator[Seed]:
    for folder in folders:
        for path in sorted(folder.rglob("*.onnx")):
            if path.stat().st_size <= _LARGEST:
                yield Seed(f"{folder.name}/{path.name}", path.read_bytes())


def _converted(sources: Iterable[Seed]) -> Iterator[Seed]:
    plugins = Plugins()
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "net.onnx"), Path(folder, "net.dla.onnx")
        for index, seed in enumerate(sources):
            source.write_bytes(seed.data)
            options = dlaconv.Options(
                allow_violations=True, verify=False, **_WAYS[index % len(_WAYS)]
            )
            try:
                dlaconv.convert(source, output, options=options, plugins=plugins)
            except UserError:
                continue
            yield Seed(f"{seed.name} converted", output.read_bytes(), seed.data)


def _foreign(sources: Sequence[Seed]) -> Iterator[Seed]:
    """Files that say nothing of who made them, as somebody else's would."""
    for seed in list(_converted(sources[:3])):
        model = onnx.load_from_string(seed.data)
        del model.metadata_props[:]
        yield Seed(f"{seed.name}, foreign", model.SerializeToString(), seed.source)
