"""The table of all rules."""

from __future__ import annotations

from dlaconv.backends.access.rules.accumulator import AccumulatorOverflow
from dlaconv.backends.access.rules.activation_chain import ActivationChain
from dlaconv.backends.access.rules.attribute_names import DemoAttribute, DeprecatedAttribute
from dlaconv.backends.access.rules.attributes import (
    ElementwiseAttributes,
    LinearAttributes,
    MatMulAttributes,
    OtherAttributes,
    PoolAttributes,
)
from dlaconv.backends.access.rules.batch_norm import StandaloneBatchNorm
from dlaconv.backends.access.rules.bit_depths import BitDepth
from dlaconv.backends.access.rules.broadcasting import BroadcastOperand
from dlaconv.backends.access.rules.concat_axis import ConcatAxis
from dlaconv.backends.access.rules.conv_channels import ConvChannels, DepthwiseChannels
from dlaconv.backends.access.rules.conv_map_size import ConvMapSize, DepthwiseMapSize
from dlaconv.backends.access.rules.conv_rank import NonPlanarConv
from dlaconv.backends.access.rules.dilation import DilatedConv
from dlaconv.backends.access.rules.elementwise_operands import (
    ConstantOperand,
    GraphInputOperand,
    OperandCount,
)
from dlaconv.backends.access.rules.fc_channels import FullyConnectedChannels
from dlaconv.backends.access.rules.gemm_form import GemmForm
from dlaconv.backends.access.rules.graph_inputs import InputChannels, InputSize
from dlaconv.backends.access.rules.groups import GroupedConv
from dlaconv.backends.access.rules.hardswish import HardSwishOpset
from dlaconv.backends.access.rules.kernel_size import (
    AveragePoolKernel,
    ConvKernelSize,
    DepthwiseKernelSize,
)
from dlaconv.backends.access.rules.map_channels import UnalignedChannels
from dlaconv.backends.access.rules.map_scales import MapScaleGrid
from dlaconv.backends.access.rules.map_size import OversizedMap
from dlaconv.backends.access.rules.matmul_operands import ConstantMatMul
from dlaconv.backends.access.rules.max_pool_kernel import MaxPoolKernel
from dlaconv.backends.access.rules.moved_batch import MovedBatch
from dlaconv.backends.access.rules.operand_scales import DistantOperandScales
from dlaconv.backends.access.rules.operators import UnsupportedOperator
from dlaconv.backends.access.rules.opset import UnexpectedOpset
from dlaconv.backends.access.rules.padding import ConvPadding, DepthwisePadding, PoolPadding
from dlaconv.backends.access.rules.pool_divisor import UncountedPadding
from dlaconv.backends.access.rules.pool_padding_sides import (
    AveragePoolBottomRightPadding,
    MaxPoolTopLeftPadding,
)
from dlaconv.backends.access.rules.pool_rounding import PoolCeilMode
from dlaconv.backends.access.rules.reduce_sum import ReduceSumForm
from dlaconv.backends.access.rules.requantisation import RequantisationShift
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.rules.same_scale import ScaleChange
from dlaconv.backends.access.rules.shared_scale import ScaleMismatch
from dlaconv.backends.access.rules.slopes import InexactSlope
from dlaconv.backends.access.rules.standalone_activation import StandaloneActivation
from dlaconv.backends.access.rules.standard_onnx import InvalidOnnx
from dlaconv.backends.access.rules.static_shapes import DynamicShape
from dlaconv.backends.access.rules.stored_bias import BiasOffGrid
from dlaconv.backends.access.rules.stored_weights import WeightsOffGrid
from dlaconv.backends.access.rules.strides import ConvStride, DepthwiseStride, PoolStride
from dlaconv.backends.access.rules.weight_buffer import OversizedWeights
from dlaconv.backends.access.rules.weight_range import ConvWeightRange, DepthwiseWeightRange
from dlaconv.backends.access.rules.weight_scales import WeightScaleCount, WeightScaleGrid

RULES: tuple[Rule, ...] = (
    UnexpectedOpset(),
    DynamicShape(),
    UnsupportedOperator(),
    InvalidOnnx(),
    InputChannels(),
    InputSize(),
    UnalignedChannels(),
    OversizedMap(),
    OversizedWeights(),
    ConvKernelSize(),
    ConvMapSize(),
    ConvChannels(),
    ConvStride(),
    ConvPadding(),
    DilatedConv(),
    GroupedConv(),
    ConvWeightRange(),
    NonPlanarConv(),
    DepthwiseMapSize(),
    DepthwiseKernelSize(),
    DepthwiseChannels(),
    DepthwiseStride(),
    DepthwisePadding(),
    DepthwiseWeightRange(),
    StandaloneActivation(),
    HardSwishOpset(),
    ActivationChain(),
    InexactSlope(),
    MaxPoolKernel(),
    AveragePoolKernel(),
    PoolStride(),
    PoolPadding(),
    MaxPoolTopLeftPadding(),
    AveragePoolBottomRightPadding(),
    UncountedPadding(),
    PoolCeilMode(),
    FullyConnectedChannels(),
    GemmForm(),
    OperandCount(),
    BroadcastOperand(),
    ConstantOperand(),
    GraphInputOperand(),
    ConcatAxis(),
    StandaloneBatchNorm(),
    ConstantMatMul(),
    ReduceSumForm(),
    MovedBatch(),
    MapScaleGrid(),
    WeightScaleGrid(),
    WeightScaleCount(),
    WeightsOffGrid(),
    BiasOffGrid(),
    ScaleMismatch(),
    ScaleChange(),
    DistantOperandScales(),
    RequantisationShift(),
    AccumulatorOverflow(),
    LinearAttributes(),
    PoolAttributes(),
    MatMulAttributes(),
    ElementwiseAttributes(),
    OtherAttributes(),
    DeprecatedAttribute(),
    BitDepth(),
    DemoAttribute(),
)
"""Every rule, in the order of the guide; ids are unique and never used again."""

_NEED_SCALES = ("GR-1", "GR-2", "GR-4", "IO-5", "CV-8", "DW-6", "AC-4")
STRUCTURAL: tuple[Rule, ...] = tuple(
    rule for rule in RULES if rule.id[:2] not in {"SC", "AT"} and rule.id not in _NEED_SCALES
)
"""The rules about operators and shapes, which can judge a network that has no scales yet."""
