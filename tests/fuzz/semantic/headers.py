"""Versions, metadata, opsets and the other fields of a model beside its graph."""

from __future__ import annotations

from random import Random

from onnx import TensorProto, helper

from tests.fuzz.semantic.draft import INTEGERS, WORDS, Draft, Mutation, pick

_OPSETS = (0, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 999, -1)
_OURS = (
    "dlaconv.layer", "dlaconv.op", "dlaconv.file", "dlaconv.line", "dlaconv.source", "dlaconv.maps",
    "dlaconv.scale_convention", "dlaconv.version", "dlaconv.", "pkg.torch.onnx.name_scopes",
)  # fmt: skip


def opset(draft: Draft, random: Random) -> str:
    index = pick(random, draft.model.opset_import)
    if index is None:
        return ""
    entry = draft.model.opset_import[index]
    if random.random() < 0.7:
        entry = next((e for e in draft.model.opset_import if e.domain == ""), entry)
    entry.version = random.choice((*_OPSETS, 2**31, -(2**63)))
    return f"opset {entry.domain!r} {entry.version}"


def opsets(draft: Draft, random: Random) -> str:
    """Opsets missing, given twice, of domains that nobody knows."""
    entries = draft.model.opset_import
    how = random.choice(("none", "one less", "twice", "alias", "many"))
    if how == "none":
        del entries[:]
    elif how == "one less" and entries:
        del entries[random.randrange(len(entries))]
    elif how == "twice":
        entries.add(domain="", version=random.choice(_OPSETS))
    elif how == "alias":
        entries.add(domain="ai.onnx", version=random.choice(_OPSETS))
    else:
        for number in range(1000):
            entries.add(domain=f"d{number}", version=number)
    return how


def ir_version(draft: Draft, random: Random) -> str:
    draft.model.ir_version = random.choice((0, 1, 2, 3, 4, 7, 9, 10, 13, 14, 99, -1, 2**62))
    return str(draft.model.ir_version)


def texts(draft: Draft, random: Random) -> str:
    word = random.choice((*WORDS, "y" * 1_000_000))
    name = random.choice(("producer_name", "producer_version", "domain", "doc_string"))
    where = random.choice((draft.model, draft.model, draft.graph))
    if where is draft.graph:
        name = random.choice(("name", "doc_string"))
    setattr(where, name, word)
    return f"{name} {word[:20]!r}"


def metadata(draft: Draft, random: Random) -> str:
    """Metadata in our own keys: provenance, tables, conventions, all forged."""
    holders = [draft.model, draft.graph, *draft.graph.node, *draft.graph.input]
    for _ in range(random.choice((1, 5, 200))):
        entry = random.choice(holders).metadata_props.add()
        entry.key, entry.value = random.choice(_OURS), random.choice((*WORDS, "1e999", "[" * 50))
    return "forged"


def training(draft: Draft, random: Random) -> str:
    info = draft.model.training_info.add()
    info.initialization.CopyFrom(draft.graph)
    return "training_info holds the graph again"


def quantisation_annotations(draft: Draft, random: Random) -> str:
    for _ in range(random.choice((1, 3))):
        note = draft.graph.quantization_annotation.add(tensor_name=random.choice(WORDS))
        entry = note.quant_parameter_tensor_names.add()
        entry.key, entry.value = "SCALE_TENSOR", random.choice(WORDS)
    return "added"


def unused_weights(draft: Draft, random: Random) -> str:
    """Constants that nothing reads, one of them large."""
    size = random.choice((1, 1000, 300_000))
    for number in range(random.choice((1, 1, 100)) if size < 10_000 else 1):
        raw = bytes(4 * size)
        made = helper.make_tensor(f"unused{number}", TensorProto.FLOAT, [size], raw, raw=True)
        draft.graph.initializer.append(made)
    return f"{size} values"


def device(draft: Draft, random: Random) -> str:
    """Sharding configurations that refer to nothing."""
    if not hasattr(draft.model, "configuration"):
        return ""
    draft.model.configuration.add(name=random.choice(WORDS), num_devices=-1)
    for node in draft.graph.node[:3]:
        node.device_configurations.add(configuration_id="none", pipeline_stage=2**30)
    return f"{random.choice(INTEGERS)} devices"


MUTATIONS: tuple[Mutation, ...] = (
    opset, opset, opsets, ir_version, texts, metadata, training, quantisation_annotations,
    unused_weights, device,
)  # fmt: skip
