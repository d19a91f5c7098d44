"""The passes of the pipeline, one a file, and the order of those that lead to CANONICAL."""

from __future__ import annotations

from dlaconv.ir.passes.absorb_scaling import absorb_scaling
from dlaconv.ir.passes.channels_first import channels_first
from dlaconv.ir.passes.clean import clean
from dlaconv.ir.passes.explicit_pads import explicit_pads
from dlaconv.ir.passes.fold_batch_norm import fold_batch_norm
from dlaconv.ir.passes.fold_bias import fold_bias
from dlaconv.ir.passes.fold_constants import fold_constants
from dlaconv.ir.passes.forward_scaling import forward_scaling
from dlaconv.ir.passes.fully_connected import fully_connected
from dlaconv.ir.passes.global_pooling import global_pooling
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.infer_shapes import infer_shapes
from dlaconv.ir.passes.integer_weights import integer_weights
from dlaconv.ir.passes.masked_columns import masked_columns
from dlaconv.ir.passes.merge_quantise import merge_quantise
from dlaconv.ir.passes.moved_activated import moved_activated
from dlaconv.ir.passes.narrow_quantise import narrow_quantise
from dlaconv.ir.passes.nested_floors import nested_floors
from dlaconv.ir.passes.one_grid import one_grid
from dlaconv.ir.passes.one_shape_op import one_shape_op
from dlaconv.ir.passes.pool_activated import pool_activated
from dlaconv.ir.passes.recognise_activations import recognise_activations
from dlaconv.ir.passes.reshape_transposes import reshape_transposes
from dlaconv.ir.passes.set_shapes import set_shapes
from dlaconv.ir.passes.split_slices import split_slices
from dlaconv.ir.passes.transpose_weights import transpose_weights
from dlaconv.ir.pipeline import Pass

CANONICAL: tuple[Pass, ...] = (
    # no other pass knows of grids per element
    one_grid,
    # shapes first: what the user asks for decides every other shape, and a computed target shape
    # becomes a constant only once the shapes it is computed from are static
    set_shapes,
    fold_constants,
    infer_shapes,
    # copies between two nodes would hide every pattern below
    clean,
    # before all that fold the factors and offsets of which activations are made
    recognise_activations,
    # before integer_weights, which wants the constant right behind the quantise node
    transpose_weights,
    integer_weights,
    # before fold_batch_norm, which would fold the first of two factors that cancel into a layer
    absorb_scaling,
    # before channels_first, which permutes weights of the one form behind the one shape operator
    fully_connected,
    one_shape_op,
    # before channels_first, which cannot permute the columns of a layer through a multiplication
    masked_columns,
    # before everything that counts axes as [N, C, H, W]: windows, means over space, biases per
    # channel of channels-last networks
    channels_first,
    global_pooling,
    explicit_pads,
    # additions to every linear operator, transposed ones of any form included; then chains of
    # factors and offsets
    fold_bias,
    fold_batch_norm,
    # behind fold_batch_norm: a factor goes into the layer before it if there is one
    forward_scaling,
    # Transposes that are left over and move nothing join the chains of Reshapes around them
    reshape_transposes,
    one_shape_op,
    # before hoist_quantise and merge_quantise, which look through operators of one result
    split_slices,
    # before hoist_quantise, which takes a quantiser through a pool but not through an activation
    moved_activated,
    pool_activated,
    # before hoist_quantise, so that the quantiser that is left moves up as far as it can
    nested_floors,
    # last of all, when nothing stands between quantisers and what computes their values; merging
    # wants them side by side
    hoist_quantise,
    narrow_quantise,
    merge_quantise,
    clean,
    # passes note shapes as they go; here they are checked against ONNX's own
    infer_shapes,
)
"""What brings a model from stage IMPORTED to stage CANONICAL, in order."""
