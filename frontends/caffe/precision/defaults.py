"""What a message that lacks fields means: CHaiDNN's and Ristretto's defaults.

CHaiDNN takes its own (``DEFAULT_BW``, ``DEFAULT_FL`` and ``DEFAULT_TH`` of
``software/xtract/caffe_network_parser.hpp``) one by one and goes on, weights in ``DEFAULT_BW - 1``;
Ristretto's are those of its schema.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """Values of fields that are not written.

    Attributes:
        bits: fields ``bw_...`` and ``..._bw``.
        fraction: fields ``fl_layer_...`` and ``..._fl``.
        weights_fraction: ``fl_params``.
        threshold: fields ``th_layer_...``.
    """

    bits: int
    fraction: int
    weights_fraction: int
    threshold: float = 16.0


CHAIDNN = Defaults(bits=6, fraction=3, weights_fraction=5)
RISTRETTO = Defaults(bits=32, fraction=16, weights_fraction=16)
