"""The table of layer types: what reads each, and why there is nothing that reads others."""

from __future__ import annotations

from dlaconv.frontends.caffe import (
    activation,
    arranging,
    combining,
    convolution,
    inner_product,
    inputs,
    normalisation,
    pooling,
    prior_box,
    reducing,
    resizing,
    scaling,
)
from dlaconv.frontends.caffe.building import Handler

HANDLERS: dict[str, Handler] = {
    "AbsVal": activation.absolute,
    "ArgMax": reducing.arg_max,
    "BatchNorm": normalisation.batch_norm,
    "Bias": scaling.bias,
    "BilinearInterp": resizing.interp,
    "BilinearInterpolate": resizing.bilinear_interpolate,
    "BNLL": activation.bnll,
    "Clip": activation.clip,
    "Concat": combining.concat,
    "Convolution": convolution.convolution,
    "ConvolutionDepthwise": convolution.depthwise,
    "Crop": arranging.crop,
    "Deconvolution": convolution.deconvolution,
    "DepthwiseConvolution": convolution.depthwise,
    "Dropout": combining.same,
    "DummyData": inputs.dummy_data,
    "Eltwise": combining.eltwise,
    "ELU": activation.elu,
    "Exp": activation.exponential,
    "Flatten": arranging.flatten,
    "HardSigmoid": activation.hard_sigmoid,
    "HardSwish": activation.hard_swish,
    "InnerProduct": inner_product.inner_product,
    "Input": inputs.graph_input,
    "Interp": resizing.interp,
    "Log": activation.logarithm,
    "LRN": normalisation.lrn,
    "MaxUnPool": resizing.max_unpool,
    "MVN": normalisation.mvn,
    "Normalize": normalisation.normalize,
    "Pad": arranging.pad,
    "Parameter": inputs.parameter,
    "Permute": arranging.permute,
    "PixelShuffle": arranging.pixel_shuffle,
    "Pooling": pooling.pooling,
    "Power": activation.power,
    "PReLU": activation.prelu,
    "PriorBox": prior_box.prior_box,
    "Reduction": reducing.reduction,
    "ReLU": activation.relu,
    "ReLU6": activation.relu6,
    "Reshape": arranging.reshape,
    "Scale": scaling.scale,
    "ShuffleChannel": arranging.shuffle_channel,
    "Sigmoid": activation.sigmoid,
    "Slice": combining.slice_map,
    "Softmax": activation.softmax,
    "Split": combining.split,
    "SPP": pooling.spatial_pyramid,
    "Swish": activation.swish,
    "TanH": activation.tanh,
    "Threshold": activation.threshold,
    "Tile": arranging.tile,
    "Unsqueeze": arranging.unsqueeze,
    "Upsample": resizing.upsample,
    **dict.fromkeys(sorted(inputs.DATA), inputs.data),
}
"""What reads a type of layer."""

TRAINING = {
    "Accuracy", "ContrastiveLoss", "DetectionEvaluate", "EuclideanLoss", "FocalLoss", "HDF5Output",
    "HingeLoss", "InfogainLoss", "MultiBoxLoss", "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss", "SmoothL1Loss", "SoftmaxWithLoss",
}  # fmt: skip
"""Losses and measures, which go away at inference."""

_HOST = "remove it from the prototxt and compute it on the host"
_TWO_MEANINGS = "forks order the elements differently, and the file does not say which one wrote it"
NO_FORM = {
    "BatchReindex": ("which rows its result has depends on the data", _HOST),
    "DetectionOutput": ("how many rows its result has depends on the data", _HOST),
    "Embed": ("it looks words up in a table, which the accelerator is not for", _HOST),
    "Filter": ("which rows its result has depends on the data", _HOST),
    "Im2col": ("it only spreads windows for a product that follows", "use Convolution"),
    "LSTM": ("it keeps a state between steps", _HOST),
    "Proposal": ("how many rows its result has depends on the data", _HOST),
    "PSROIPooling": ("where its windows lie depends on the data", _HOST),
    "Recurrent": ("it keeps a state between steps", _HOST),
    "Reorg": (_TWO_MEANINGS, "remove it, or register a layer of yours with a plugin"),
    "RNN": ("it keeps a state between steps", _HOST),
    "ROIPooling": ("where its windows lie depends on the data", _HOST),
}
"""Why a type cannot be read, and what to do."""
