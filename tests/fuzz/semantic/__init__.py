"""Mutations of a network as ONNX sees it: graphs, tensors, attributes, types, names, files."""

from __future__ import annotations

from random import Random

from tests.fuzz.semantic import (
    access,
    attributes,
    externals,
    graphs,
    headers,
    insertions,
    integers,
    names,
    quantisers,
    subgraphs,
    tensors,
)
from tests.fuzz.semantic.draft import Draft, Mutation

_EVERYWHERE: tuple[Mutation, ...] = (
    *graphs.MUTATIONS, *graphs.MUTATIONS, *insertions.MUTATIONS, *insertions.MUTATIONS,
    *tensors.MUTATIONS, *tensors.MUTATIONS, *attributes.MUTATIONS, *attributes.MUTATIONS,
    *headers.MUTATIONS, *names.MUTATIONS, *subgraphs.MUTATIONS, *externals.MUTATIONS,
)  # fmt: skip
_OWN = {
    "qonnx": quantisers.MUTATIONS * 4,
    "onnx": integers.MUTATIONS * 4,
    "access": access.MUTATIONS * 4,
}
_TRIES = 20

__all__ = ["Draft", "mutate"]


def mutate(draft: Draft, random: Random, subject: str) -> str:
    """Applies one mutation that finds something to change; returns what it did."""
    mutations = _EVERYWHERE + _OWN[subject]
    for _ in range(_TRIES):
        mutation = random.choice(mutations)
        try:
            done = mutation(draft, random)
        except (ValueError, TypeError):  # an earlier mutation has left values that protobuf refuses
            continue
        if done:
            return f"{mutation.__name__}: {done}"
    return "nothing"
