"""What a layer with formats makes of its weights and its bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer
from dlaconv.frontends.caffe.precision import FilterThresholds, Precision
from dlaconv.frontends.caffe.precision.filters import (
    accumulated_unit,
    quantised_bias,
    quantised_by_format,
    quantised_by_thresholds,
    thresholds_of,
)
from dlaconv.frontends.caffe.precision.flow import Chain
from dlaconv.frontends.caffe.precision.normalising import Normalising
from dlaconv.ir import dialect


@dataclass(frozen=True, eq=False)
class LayerParameters:
    """Quantises the weights and the bias of one layer.

    Attributes:
        precision: its formats.
        chain: the layers that CHaiDNN computes as one with it, None if it stands alone.
        normalising: takes care of chains.
    """

    precision: Precision
    chain: Chain | None
    normalising: Normalising

    def weights(self, layer: CaffeLayer, constant: ir.Value, outputs: int, groups: int) -> ir.Value:
        """The weights to compute with; see `CaffeLayer.weights`."""
        form = self.precision.weights
        if form is None:
            return constant
        if not isinstance(form, FilterThresholds):
            if self.chain is not None:
                self.normalising.fold(layer, self.chain, constant)
            return quantised_by_format(layer, constant, form)
        thresholds = thresholds_of(layer, form, constant, outputs, groups)
        if self.chain is not None:
            thresholds = self.normalising.fold(layer, self.chain, constant, thresholds)
        return quantised_by_thresholds(layer, constant, form.bits, thresholds, outputs, groups)

    def bias(self, layer: CaffeLayer, constant: ir.Value) -> ir.Value | None:
        """The bias to compute with; None where layers behind it add it."""
        bias: np.ndarray = dialect.array_of(constant)
        if self.chain is not None:
            self.normalising.take_bias(self.chain, bias)
            return None
        if self.precision.bias is None:
            return constant
        unit = accumulated_unit(layer, self.precision)
        rounded = quantised_bias(layer, bias, self.precision.bias, self.precision.mode, unit)
        return layer.constant("bias/quantised", rounded)
