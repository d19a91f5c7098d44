"""Weights beside the file: missing, cut off, outside the folder, behind links and pipes."""

from __future__ import annotations

from random import Random

from onnx import TensorProto

from tests.fuzz.semantic.draft import Draft, Mutation

_OUTSIDE = (
    "/etc/hostname", "/dev/zero", "/dev/urandom", "/proc/self/mem", "../secret.bin",
    "a/../../secret.bin", "..", "../", "C:\\secret.bin", "..\\secret.bin", "\\\\host\\share",
    "file:///etc/hostname", "\x00", "w\x00.bin", "", ".", "/", "ä/\u202e", "w" * 5000,
)  # fmt: skip
_NUMBERS = (
    "0", "1", "3", "-1", "99999999999", "9223372036854775807", "18446744073709551616", "1e3", "",
    " 4", "0x10", "٣", "4" * 400,
)  # fmt: skip


def _outsourced(draft: Draft, random: Random) -> tuple[TensorProto, bytes] | None:
    """A constant whose data is taken out, and the data."""
    tensors = [tensor for tensor in draft.graph.initializer if tensor.raw_data]
    if not tensors:
        return None
    tensor = random.choice(tensors)
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor, data


def _entry(tensor: TensorProto, **entries: str) -> None:
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def beside(draft: Draft, random: Random) -> str:
    """As it should be, but for offset, length or the file's own length."""
    found = _outsourced(draft, random)
    if found is None:
        return ""
    tensor, data = found
    how = random.choice(("right", "cut", "offset", "length", "missing", "empty", "folder", "deep"))
    name = "sub/w.bin" if how == "deep" else "w.bin"
    _entry(tensor, location=name)
    if how == "offset":
        _entry(tensor, offset=random.choice(_NUMBERS))
    elif how == "length":
        _entry(tensor, length=random.choice(_NUMBERS))
    if how == "folder":
        draft.files["w.bin/inside"] = data
    elif how != "missing":
        draft.files[name] = {"cut": data[:-1], "empty": b""}.get(how, data)
    return f"data of {tensor.name!r} outside: {how}"


def outside(draft: Draft, random: Random) -> str:
    """A place that must not be read; there is a file of the right size outside the folder."""
    found = _outsourced(draft, random)
    if found is None:
        return ""
    tensor, data = found
    place = random.choice(_OUTSIDE)
    _entry(tensor, location=place)
    draft.files["../secret.bin"] = data
    draft.must_refuse = True
    return f"data of {tensor.name!r} at {place[:40]!r}"


def link(draft: Draft, random: Random) -> str:
    """A link out of the folder, into it, to itself, to a device."""
    found = _outsourced(draft, random)
    if found is None:
        return ""
    tensor, data = found
    to = random.choice(("../secret.bin", "/dev/zero", "/etc/hostname", "w.bin", "real.bin", "."))
    _entry(tensor, location="w.bin")
    draft.links["w.bin"] = to
    draft.files["../secret.bin"] = draft.files["real.bin"] = data
    draft.must_refuse = to != "real.bin"
    return f"data of {tensor.name!r} linked to {to!r}"


def pipe(draft: Draft, random: Random) -> str:
    """A pipe that nobody writes to: reading it would never end."""
    found = _outsourced(draft, random)
    if found is None:
        return ""
    tensor, _ = found
    _entry(tensor, location="w.pipe")
    draft.pipes.append("w.pipe")
    draft.must_refuse = True
    return f"data of {tensor.name!r} in a pipe"


def shared(draft: Draft, random: Random) -> str:
    """Many constants on the same bytes, or on those of the model's own file."""
    own = random.random() < 0.3
    if not own:
        draft.files["w.bin"] = random.randbytes(random.choice((64, 4096, 100_000)))
    count = 0
    while count < random.choice((1, 5, 50)) and (found := _outsourced(draft, random)):
        tensor, _ = found
        _entry(tensor, location="net.onnx" if own else "w.bin", offset=random.choice(("0", "4")))
        count += 1
    return f"{count} constants on the bytes of {'the model' if own else 'one file'}"


def both(draft: Draft, random: Random) -> str:
    """Data outside and inside, keys twice, keys unknown, no key at all."""
    found = _outsourced(draft, random)
    if found is None:
        return ""
    tensor, data = found
    draft.files["w.bin"] = data
    how = random.choice(("inside too", "no key", "twice", "unknown"))
    if how == "inside too":
        tensor.raw_data = data
        _entry(tensor, location="w.bin")
    elif how == "twice":
        _entry(tensor, location="w.bin")
        tensor.external_data.add(key="location", value="other.bin")
    elif how == "unknown":
        _entry(tensor, location="w.bin", basepath="/etc", checksum="x", pointer="12345")
    return f"{tensor.name!r}: {how}"


MUTATIONS: tuple[Mutation, ...] = (beside, beside, outside, link, pipe, shared, both)
