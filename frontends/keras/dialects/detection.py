"""Which library a layer belongs to: three of them call their packages and classes alike."""

from __future__ import annotations

from dlaconv.frontends.keras.network import Layer

_MODULES = {
    "qkeras": "QKeras",
    "hgq": "HGQ2",
    "tensorflow_model_optimization": "tfmot",
}
_CLASSES = {
    "FixedPointQuantizer": "HGQ",
    "QActivation": "QKeras",
    "QuantizeLayer": "tfmot",
    "QuantizeWrapper": "tfmot",
    "QuantizeWrapperV2": "tfmot",
}


def dialect_of(layer: Layer) -> str:
    """The library that quantises a layer; empty for none. ``.h5`` files have no modules."""
    if found := _MODULES.get(layer.module.partition(".")[0]):
        return found
    if layer.kind in _CLASSES:
        return _CLASSES[layer.kind]
    if layer.kind.startswith("Q") and {"kq_conf", "iq_conf"} & layer.config.keys():
        return "HGQ2"
    if layer.kind.startswith("Q") and any(name.endswith("_quantizer") for name in layer.config):
        return "QKeras"
    policy = layer.config.get("dtype")
    kind = policy.get("class_name") if isinstance(policy, dict) else policy
    if isinstance(kind, str) and (kind.startswith("Quantized") or "_from_" in kind):
        return "Keras's own quantisation"
    return ""
