"""ACCESS files: scales and depths in attributes, and the tables in the metadata."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from onnx import AttributeProto, helper

from tests.fuzz.semantic.draft import FLOATS, INTEGERS, WORDS, Draft, Mutation, some_node

_SCALES = (
    "input_scale", "output_scale", "weight_ch_scales", "left_scale", "right_scale", "A_scale",
    "B_scale", "alpha_scale",
)  # fmt: skip
_DEPTHS = (
    "input_bitdepth", "output_bitdepth", "weight_bitdepth", "bias_bitdepth", "weight_bit",
    "activation_bit", "left_bitdepth", "right_bitdepth",
)  # fmt: skip
_POWERS = tuple(2.0**exponent for exponent in (-126, -60, -20, -7, -1, 0, 3, 20, 60, 127))
_TABLES = (
    "", "{", "[]", "null", "1", '"x"', "[" * 100_000, '{"a":' * 100_000, "{}", "\x00", "NaN",
    '{"input": 1e999}', "9" * 5000, '{"input": {"exponent": ' + "9" * 5000 + "}}", "ä",
)  # fmt: skip
_FIELDS = (
    "exponent", "qmin", "qmax", "real_step", "source_step", "clip", "class", "layer", "tensor",
    "step_errors", "gain_errors", "bias_error", "requantised", "rounding", "channel_ratios",
    "sign", "tensor",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 127, 128, 255, 300, -129, 10**6, 10**400, 1e308, -1e308, 1e-320,
    float("nan"), float("inf"), "", "x", [], {}, [0, 0], [1, -1], [None, None], [0.0, float("nan")],
    {"a": 1}, {"axis": 1, "ratios": [1.0] * 16}, [[[]]], "half-even", "exact", -200, 65535,
)  # fmt: skip


def scale(draft: Draft, random: Random) -> str:
    """A scale of a node that has one."""
    found = [
        (node, attribute)
        for node in draft.graph.node
        for attribute in node.attribute
        if attribute.name in _SCALES
    ]
    if not found:
        return ""
    node, attribute = random.choice(found)
    value = random.choice((*FLOATS, *_POWERS, *_POWERS))
    if attribute.type == AttributeProto.FLOATS and attribute.floats:
        how = random.choice(("one", "all", "longer", "shorter", "empty", "single"))
        if how == "one":
            attribute.floats[random.randrange(len(attribute.floats))] = value
        elif how == "all":
            attribute.floats[:] = [value] * len(attribute.floats)
        elif how == "longer":
            attribute.floats.extend([value] * random.choice((1, 16, 5000)))
        elif how == "shorter":
            del attribute.floats[-1:]
        elif how == "empty":
            del attribute.floats[:]
        else:
            attribute.CopyFrom(helper.make_attribute(attribute.name, value))
    else:
        attribute.f = value
    return f"{attribute.name} of {node.name!r}: {value}"


def every_scale(draft: Draft, random: Random) -> str:
    """All map scales times one factor: consistent, but far away."""
    factor = random.choice(_POWERS)
    for node in draft.graph.node:
        for attribute in node.attribute:
            if attribute.name in _SCALES and attribute.type == AttributeProto.FLOAT:
                product = attribute.f * factor
                attribute.f = product if abs(product) < 3e38 else float("inf")
    return f"times {factor}"


def private(draft: Draft, random: Random) -> str:
    """A scale or depth on any node, of any type."""
    node = some_node(draft, random)
    if node is None:
        return ""
    name = random.choice((*_SCALES, *_DEPTHS, *_DEPTHS))
    value: Any = random.choice((*FLOATS, *INTEGERS, *_POWERS, "8", [1.0], [8, 8], [0.5] * 16))
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return f"{name} = {value!r:.30} on {node.name!r}"


def forget(draft: Draft, random: Random) -> str:
    """A scale or depth is missing: on one node, or on all."""
    name = random.choice((*_SCALES, *_DEPTHS))
    nodes = list(draft.graph.node)
    if not nodes:
        return ""
    chosen = nodes if random.random() < 0.3 else [random.choice(nodes)]
    for node in chosen:
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
    return f"{name} of {len(chosen)} nodes"


def _properties(draft: Draft) -> dict[str, str]:
    return {entry.key: entry.value for entry in draft.model.metadata_props}


def _store(draft: Draft, properties: dict[str, str]) -> None:
    del draft.model.metadata_props[:]
    for key, value in properties.items():
        draft.model.metadata_props.add(key=key, value=value)


def table(draft: Draft, random: Random) -> str:
    """The map table is no table."""
    properties = _properties(draft)
    properties["dlaconv.maps"] = text = random.choice(_TABLES)
    _store(draft, properties)
    return repr(text[:40])


def row(draft: Draft, random: Random) -> str:
    """A field of the map table with any value."""
    properties = _properties(draft)
    try:
        rows = json.loads(properties.get("dlaconv.maps", "{}"))
    except (ValueError, RecursionError):
        return ""
    if not isinstance(rows, dict) or not rows:
        return ""
    name = random.choice(list(rows))
    if not isinstance(rows[name], dict) or random.random() < 0.1:
        rows[name] = random.choice(_VALUES)
    elif random.random() < 0.2:
        rows[name].pop(random.choice(_FIELDS), None)
    else:
        field = random.choice((*_FIELDS, *rows[name]))
        rows[name][field] = random.choice(_VALUES)
    properties["dlaconv.maps"] = json.dumps(rows)
    _store(draft, properties)
    return f"row {name!r}: {str(rows[name])[:120]}"


def property_value(draft: Draft, random: Random) -> str:
    """Another convention, version or target; or none."""
    properties = _properties(draft)
    if not properties:
        return ""
    key = random.choice(list(properties))
    if random.random() < 0.3:
        del properties[key]
    else:
        properties[key] = random.choice(("guide", "int-per-real", *WORDS))
    _store(draft, properties)
    return f"{key}: {properties.get(key, 'gone')[:30]!r}"


def other_convention(draft: Draft, random: Random) -> str:
    properties = _properties(draft)
    current = properties.get("dlaconv.scale_convention")
    properties["dlaconv.scale_convention"] = "guide" if current != "guide" else "int-per-real"
    _store(draft, properties)
    return properties["dlaconv.scale_convention"]


MUTATIONS: tuple[Mutation, ...] = (
    scale, scale, scale, every_scale, private, private, forget, table, row, row, row,
    property_value, other_convention,
)  # fmt: skip
