"""From LEGAL to MAPPED: every stored map gets exactly one quantisation."""

from __future__ import annotations

from dlaconv.ir.passes.maps.derive_maps import derive_maps
from dlaconv.ir.passes.maps.hoist_signs import hoist_signs
from dlaconv.ir.passes.maps.implicit_relu import implicit_relu
from dlaconv.ir.passes.maps.known_operators import known_operators
from dlaconv.ir.passes.maps.per_channel_maps import per_channel_maps
from dlaconv.ir.passes.maps.pipelined_activations import pipelined_activations
from dlaconv.ir.passes.maps.redundant_rounding import redundant_rounding
from dlaconv.ir.passes.maps.requantise import requantise
from dlaconv.ir.passes.maps.returned_inputs import returned_inputs
from dlaconv.ir.passes.maps.sign_activations import sign_activations
from dlaconv.ir.passes.maps.single_use import single_use
from dlaconv.ir.pipeline import Pass

MAPS: tuple[Pass, ...] = (
    # removes clips and tables that known_operators would refuse
    hoist_signs,
    # before everything that reads the step of a map; what it cannot do is an error
    per_channel_maps,
    # refuses what no later pass could carry, all of it in one run
    known_operators,
    # before requantise, which would give such a rounding an operator
    redundant_rounding,
    # behind it, so that one rounding is left between a layer and its activation; before
    # requantise, which would put an operator there
    pipelined_activations,
    # a quantiser on a stored map becomes an operator of its own
    requantise,
    returned_inputs,
    # behind requantise, so that it finds an operator to be pipelined behind
    implicit_relu,
    # raw uses get their map before single_use counts the uses of each unrounded value
    derive_maps,
    # again: a quantiser may read a map that is derived for others
    requantise,
    single_use,
    # behind both: each sign has a layer for itself, and that layer's input a step
    sign_activations,
    # again: a layer that carries a requantisation or a sign may have an activation behind it
    pipelined_activations,
)

__all__ = ["MAPS"]
