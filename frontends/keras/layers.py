"""The table of layers: what reads each, and why there is nothing that reads others."""

from __future__ import annotations

from dlaconv.frontends.keras import (
    activation,
    arranging,
    convolution,
    dense,
    merging,
    normalisation,
    operations,
    pooling,
)
from dlaconv.frontends.keras.building import Handler
from dlaconv.frontends.keras.dialects import (
    hgq_layers,
    hgq_proxy,
    native_layers,
    qkeras_layers,
    tfmot_layers,
)

_DIMENSIONS = ("1D", "2D", "3D")


def _each(stem: str, handler: Handler, ending: str = "") -> dict[str, Handler]:
    return {f"{stem}{dimension}{ending}": handler for dimension in _DIMENSIONS}


_AUGMENTING = (
    "RandomBrightness", "RandomContrast", "RandomFlip", "RandomHeight", "RandomHue",
    "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation",
    "RandomWidth", "RandomZoom",
)  # fmt: skip
"""Layers that change pictures while training; RandomCrop cuts at inference, too."""
HANDLERS: dict[str, Handler] = {
    "Activation": activation.activation,
    "ActivityRegularization": arranging.same,
    "Add": merging.merge("Add"),
    "AlphaDropout": arranging.same,
    "Average": merging.average,
    "BatchNormalization": normalisation.batch_normalisation,
    "BatchNormalizationV1": normalisation.batch_normalisation,
    "Concatenate": merging.concatenate,
    "CustomScaleLayer": merging.scaled_sum,
    "Dense": dense.dense,
    "Dropout": arranging.same,
    "ELU": activation.simple("ELU"),
    "Flatten": arranging.flatten,
    "GaussianDropout": arranging.same,
    "GaussianNoise": arranging.same,
    "Identity": arranging.same,
    "LeakyReLU": activation.simple("LeakyReLU"),
    "Maximum": merging.merge("Max"),
    "Minimum": merging.merge("Min"),
    "Multiply": merging.merge("Mul"),
    "Normalization": normalisation.normalisation,
    "Permute": arranging.permute,
    "PReLU": activation.prelu,
    "ReLU": activation.simple("ReLU"),
    "RepeatVector": arranging.repeat_vector,
    "Rescaling": normalisation.rescaling,
    "Reshape": arranging.reshape,
    "SlicingOpLambda": operations.function_of_tensorflow,
    "Softmax": activation.simple("Softmax"),
    "Subtract": merging.subtract,
    "SyncBatchNormalization": normalisation.batch_normalisation,
    "TFOpLambda": operations.function_of_tensorflow,
    "ThresholdedReLU": activation.thresholded_relu,
    **_each("AveragePooling", pooling.average),
    **_each("Conv", convolution.convolution),
    **_each("Conv", convolution.transposed, "Transpose"),
    **_each("Cropping", arranging.cropping),
    "DepthwiseConv1D": convolution.depthwise,
    "DepthwiseConv2D": convolution.depthwise,
    **_each("GlobalAveragePooling", pooling.global_average),
    **_each("GlobalMaxPooling", pooling.global_maximum),
    **_each("MaxPooling", pooling.maximum),
    "SeparableConv1D": convolution.separable,
    "SeparableConv2D": convolution.separable,
    **_each("SpatialDropout", arranging.same),
    "UpSampling1D": arranging.up_sampling,
    "UpSampling2D": arranging.up_sampling,
    **_each("ZeroPadding", arranging.zero_padding),
    **dict.fromkeys(_AUGMENTING, arranging.same),
}
"""What reads a layer, by its class."""

REGISTERED = {"Custom>CustomScaleLayer"}
"""Layers of Keras's own models that are registered as if they were somebody's."""

_STATE = "it keeps a state between steps"
_HOST = "compute it on the host, and save the rest as a model of its own"
_OWN = "it divides each sample by a deviation of its own, which the accelerator cannot"
_BATCH = "train it with BatchNormalization"
_PICTURES = "do it to the pictures on the host, and start the model behind it"
NO_FORM = {
    "CenterCrop": ("it prepares pictures", _PICTURES),
    "Bidirectional": (_STATE, _HOST),
    "ConvLSTM2D": (_STATE, _HOST),
    "Dot": ("it multiplies maps by maps over axes of their own", "use Dense or Multiply"),
    "EinsumDense": ("its product is free in its axes", "use Dense or Conv2D"),
    "Embedding": ("it looks words up in a table, which the accelerator is not for", _HOST),
    "GRU": (_STATE, _HOST),
    "GroupNormalization": (_OWN, _BATCH),
    "LSTM": (_STATE, _HOST),
    "LayerNormalization": (_OWN, _BATCH),
    "Masking": ("it drops steps depending on the data", _HOST),
    "MultiHeadAttention": ("attention is not read from Keras", "export it with tf2onnx"),
    "RandomCrop": ("it cuts pictures at inference, too", _PICTURES),
    "Resizing": ("how it interpolates depends on what runs Keras", _PICTURES),
    "SimpleRNN": (_STATE, _HOST),
    "UnitNormalization": (_OWN, _BATCH),
    "TimeDistributed": ("it wraps a layer once for each step", "move the steps into the batch"),
}
"""Why a layer cannot be read, and what to do."""

CODE = {"Lambda", "TensorFlowOpLayer", "TFSMLayer"}
"""Layers whose meaning is code."""

QUANTISED: dict[str, dict[str, Handler]] = {
    "HGQ": hgq_proxy.HANDLERS,
    "HGQ2": hgq_layers.HANDLERS,
    "Keras's own quantisation": native_layers.HANDLERS,
    "QKeras": qkeras_layers.HANDLERS,
    "tfmot": tfmot_layers.HANDLERS,
}
"""What reads the layers of a library that quantises, by the library and the class."""

AMONG: dict[str, dict[str, Handler]] = {"HGQ": hgq_proxy.LINEAR}
"""What reads Keras's own layers in a network that a library has quantised, by it and the class."""

REMEDIES = {"HGQ": "give what HGQ.to_proxy_model makes of the network, without tables"}
"""What to do about a layer of a library that is not read, where there is something better."""
