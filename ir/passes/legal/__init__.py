"""From CANONICAL to LEGAL: rewrites that make operators and windows fit the hardware.

One legalisation a file; ``docs/legalisation.md`` is made of their docstrings.
"""

from __future__ import annotations

from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.average_cascade import average_cascade
from dlaconv.ir.passes.legal.average_pool_conv import average_pool_conv
from dlaconv.ir.passes.legal.backward_affine import backward_affine
from dlaconv.ir.passes.legal.chained_sum import chained_sum
from dlaconv.ir.passes.legal.channel_affine import channel_affine
from dlaconv.ir.passes.legal.channel_padding import channel_padding
from dlaconv.ir.passes.legal.clip_by_saturation import clip_by_saturation
from dlaconv.ir.passes.legal.concat_axis import concat_axis
from dlaconv.ir.passes.legal.constant_matmul import constant_matmul
from dlaconv.ir.passes.legal.conv1d import conv1d
from dlaconv.ir.passes.legal.conv_pads import conv_pads
from dlaconv.ir.passes.legal.conv_transpose import conv_transpose
from dlaconv.ir.passes.legal.depth_to_space import depth_to_space
from dlaconv.ir.passes.legal.dilated_conv import dilated_conv
from dlaconv.ir.passes.legal.dilated_phases import dilated_phases
from dlaconv.ir.passes.legal.flatten_fc import flatten_fc
from dlaconv.ir.passes.legal.forward_affine import forward_affine
from dlaconv.ir.passes.legal.global_average import global_average
from dlaconv.ir.passes.legal.global_average_sum import global_average_sum
from dlaconv.ir.passes.legal.grouped_conv import grouped_conv
from dlaconv.ir.passes.legal.hard_sigmoid import hard_sigmoid
from dlaconv.ir.passes.legal.input_operand import input_operand
from dlaconv.ir.passes.legal.legalisation import Legalisation
from dlaconv.ir.passes.legal.max_pool_cascade import max_pool_cascade
from dlaconv.ir.passes.legal.max_pool_padding import max_pool_padding
from dlaconv.ir.passes.legal.max_pool_shift import max_pool_shift
from dlaconv.ir.passes.legal.polyphase import polyphase
from dlaconv.ir.passes.legal.pool_ceil_mode import pool_ceil_mode
from dlaconv.ir.passes.legal.pool_padding_fold import pool_padding_fold
from dlaconv.ir.passes.legal.reduce_max_pool import reduce_max_pool
from dlaconv.ir.passes.legal.reduce_mean_conv import reduce_mean_conv
from dlaconv.ir.passes.legal.reduce_sum_form import reduce_sum_form
from dlaconv.ir.passes.legal.resize_nearest import resize_nearest
from dlaconv.ir.passes.legal.saturated_difference import saturated_difference
from dlaconv.ir.passes.legal.selection import selection
from dlaconv.ir.passes.legal.silu import silu
from dlaconv.ir.passes.legal.small_depthwise import small_depthwise
from dlaconv.ir.passes.legal.space_to_depth import space_to_depth
from dlaconv.ir.passes.legal.split_inputs import split_inputs
from dlaconv.ir.passes.legal.subtract_maps import subtract_maps
from dlaconv.ir.passes.legal.uncounted_average import uncounted_average
from dlaconv.ir.passes.legal.unrounded_affine import unrounded_affine
from dlaconv.ir.passes.legal.weighted_sum import weighted_sum
from dlaconv.ir.passes.legal.wide_conv import wide_conv
from dlaconv.ir.passes.legal.wide_fc_inputs import wide_fc_inputs
from dlaconv.ir.passes.legal.wide_fc_outputs import wide_fc_outputs
from dlaconv.ir.passes.maps.redundant_rounding import redundant_rounding
from dlaconv.ir.passes.merge_transposes import merge_transposes
from dlaconv.ir.passes.moved_activated import moved_activated
from dlaconv.ir.passes.one_shape_op import one_shape_op
from dlaconv.ir.passes.reshape_transposes import reshape_transposes
from dlaconv.ir.pipeline import Pass

LEGALISATIONS: tuple[Legalisation, ...] = (
    # before the rewrites of the factors that it is made of
    hard_sigmoid,
    silu,
    # sums first: they take along the factors of their operands
    weighted_sum,
    # products of maps of rows; then what their layers can take along
    constant_matmul,
    backward_affine,
    # what a layer with weights can take along needs no layer of its own
    forward_affine,
    channel_affine,
    unrounded_affine,
    # behind them: layers can compute the opposite of what they do
    subtract_maps,
    saturated_difference,
    chained_sum,
    global_average_sum,
    # outputs first: each part may have too many inputs
    wide_fc_outputs,
    flatten_fc,
    wide_fc_inputs,
    # before all that look at maps of rows and columns
    conv1d,
    # means and maxima over axes are poolings
    reduce_mean_conv,
    reduce_max_pool,
    reduce_sum_form,
    # poolings: Pads before them, their size, their window, their padding
    pool_padding_fold,
    pool_ceil_mode,
    max_pool_shift,
    max_pool_cascade,
    max_pool_padding,
    uncounted_average,
    average_pool_conv,
    global_average,
    average_cascade,
    # all these before the rewrites of convolutions, which see what they make
    selection,
    depth_to_space,
    space_to_depth,
    resize_nearest,
    conv_transpose,
    # cheaper than polyphase where a dilation is even
    dilated_phases,
    # dilations that one kernel cannot hold, too; dilated_conv has the others
    polyphase,
    dilated_conv,
    grouped_conv,
    # dense ones only
    wide_conv,
    split_inputs,
    small_depthwise,
    # behind those that change kernels and pads
    conv_pads,
    concat_axis,
    # behind what makes Adds
    input_operand,
    # behind all that make layers, which clips want to follow
    clip_by_saturation,
    # last: everything that any other makes is padded, too
    channel_padding,
)
"""Every legalisation, in the order in which they are tried; later ones see the results."""

_ON_PARTS = ("channel_padding",)
"""Legalisations for parts of a network, once it is cut: what the host reads keeps its shape."""

PADDING: tuple[Pass, ...] = (
    # again: a clip may have become the end of a part
    clip_by_saturation.as_pass(),
    *(i.as_pass() for i in LEGALISATIONS if i.name in _ON_PARTS),
)
REWRITES: tuple[Pass, ...] = (
    # a rounding that averages do not need is seen only as long as they are averages
    redundant_rounding,
    *(i.as_pass() for i in LEGALISATIONS if i.name not in _ON_PARTS),
    # some move the results of layers: back to the layer with their activation and rounding
    moved_activated,
    hoist_quantise,
    # again: a rounding may have stood between the results and their activation
    moved_activated,
    # each of a row of such layers brings a Transpose or Reshape before and one behind
    merge_transposes,
    reshape_transposes,
    one_shape_op,
)
LEGAL: tuple[Pass, ...] = (*REWRITES, *PADDING)
"""What brings a model from stage CANONICAL to stage LEGAL."""

__all__ = ["LEGAL", "LEGALISATIONS", "PADDING", "REWRITES"]
