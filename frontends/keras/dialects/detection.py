"""Which library a layer belongs to: three of them call their packages and classes alike."""

from __future__ import annotations

from dlaconv.frontends.keras.network import Layer

_MODULES = {
    "HGQ": "HGQ",
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
    """The library that quantises a layer; empty for none.

    ``.h5`` files have no modules, but names such as ``hgq>QAdd``.
    """
    package = layer.module or layer.registered.replace(">", ".")
    if found := _MODULES.get(package.partition(".")[0]):
        return found
    if layer.kind in _CLASSES:
        return _CLASSES[layer.kind]
    if layer.kind.startswith("Q") and {"kq_conf", "iq_conf"} & layer.config.keys():
        return "HGQ2"
    if layer.kind.startswith("Q") and any(name.endswith("_quantizer") for name in layer.config):
        return "QKeras"
    return "Keras's own quantisation" if mode_of(layer) else ""


def mode_of(layer: Layer) -> str:
    """How Keras itself quantised a layer, such as ``int8`` or ``int4/128``; empty for not.

    The policy has a mode, whatever its class is; as text it is ``int8_from_float32``.
    """
    policy = layer.config.get("dtype")
    inner = policy.get("config") if isinstance(policy, dict) else None
    mode = inner.get("mode") if isinstance(inner, dict) else None
    if isinstance(policy, str):
        mode, found, _ = policy.partition("_from_")
        mode = mode if found else None
    return mode if isinstance(mode, str) else ""
