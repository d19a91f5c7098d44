"""The quantisers of QKeras as files have them: an object, or a call as text.

``QActivation("quantized_relu(6, 0)")`` is stored as text by QKeras 0.9. It is parsed, never
evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST = 1000
_FIXED = {
    "bits": 8, "integer": 0, "symmetric": 0, "keep_negative": True, "alpha": None,
    "use_stochastic_rounding": False, "scale_axis": None, "qnoise_factor": 1.0,
}  # fmt: skip
PARAMETERS: dict[str, dict[str, Any]] = {
    "quantized_bits": {**_FIXED, "post_training_scale": None},
    "quantized_linear": {**_FIXED, "symmetric": 1},
    "quantized_relu": {
        "bits": 8, "integer": 0, "use_sigmoid": 0, "negative_slope": 0.0,
        "use_stochastic_rounding": False, "relu_upper_bound": None, "is_quantized_clip": True,
        "qnoise_factor": 1.0,
    },
    "quantized_po2": {
        "bits": 8, "max_value": None, "use_stochastic_rounding": False,
        "quadratic_approximation": False, "log2_rounding": "rnd", "qnoise_factor": 1.0,
    },
    "quantized_relu_po2": {
        "bits": 8, "max_value": None, "negative_slope": 0, "use_stochastic_rounding": False,
        "quadratic_approximation": False, "log2_rounding": "rnd", "qnoise_factor": 1.0,
    },
    "quantized_tanh": {
        "bits": 8, "use_stochastic_rounding": False, "symmetric": False, "use_real_tanh": False,
    },
    "quantized_sigmoid": {
        "bits": 8, "symmetric": False, "use_real_sigmoid": False, "use_stochastic_rounding": False,
    },
    "binary": {"use_01": False, "alpha": None, "use_stochastic_rounding": False},
    "stochastic_binary": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "ternary": {
        "alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5,
    },
    "stochastic_ternary": {
        "alpha": None, "threshold": None, "temperature": 8.0, "use_real_sigmoid": True,
        "number_of_unrolls": 5,
    },
    "bernoulli": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "quantized_ulaw": {"bits": 8, "integer": 0, "symmetric": 0, "u": 255.0},
    "quantized_hswish": {**_FIXED, "relu_shift": 3, "relu_upper_bound": 6},
}  # fmt: skip
"""Parameters of each quantiser in the order of its constructor, with their defaults."""


class SpecError(ValueError):
    """A quantiser that cannot be read, or whose meaning is not kept."""


@dataclass(frozen=True)
class Spec:
    """A quantiser.

    Attributes:
        name: its class.
        parameters: all of its parameters.
    """

    name: str
    parameters: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    def integer(self, name: str, least: int, most: int) -> int:
        """A parameter that is an integer.

        Raises:
            SpecError: if it is none, or out of range.
        """
        value = self.parameters[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or not least <= value <= most:
            raise SpecError(f"{self.name}: {name} is {value!r}")
        return int(value)

    @property
    def bits(self) -> int:
        """The number of bits."""
        return self.integer("bits", 1, 32)

    @property
    def alpha(self) -> Any:
        """The scale: None, ``auto``, ``auto_po2``, or a number or array."""
        value = self.parameters.get("alpha")
        if isinstance(value, str) and value not in {"auto", "auto_po2"}:
            raise SpecError(f"{self.name}: alpha is {value!r}")
        return value

    def trained(self) -> Spec:
        """The same for a kernel, where no alpha means ``auto_po2``: QKeras changes it silently."""
        if "alpha" not in self.parameters or self.parameters["alpha"] is not None:
            return self
        changed = {**self.parameters, "alpha": "auto_po2"}
        if "symmetric" in changed:
            changed["symmetric"] = True
        return Spec(self.name, changed)


def spec_of(value: Any) -> Spec | None:
    """A quantiser as it is stored; None if the value is none of QKeras.

    Raises:
        SpecError: if it is one of QKeras, but cannot be read.
    """
    if isinstance(value, Mapping):
        name, config = value.get("class_name"), value.get("config")
        name = name.rpartition(">")[2] if isinstance(name, str) else ""
        if name not in PARAMETERS or not isinstance(config, Mapping):
            return None
        return _checked(name, [], dict(config))
    if isinstance(value, str):
        name, arguments, keywords = _called(value)
        return _checked(name, arguments, keywords) if name in PARAMETERS else None
    return None


def _called(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    name = text.partition("(")[0].strip()
    if name not in PARAMETERS:
        return "", [], {}
    try:
        if len(text) > _LONGEST:
            raise ValueError
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return name, [], {}
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError
        arguments = [ast.literal_eval(item) for item in call.args]
        keywords = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise SpecError(f"{text[:60]!r} is no quantiser") from None
    return name, arguments, keywords


def _checked(name: str, arguments: list[Any], keywords: dict[str, Any]) -> Spec:
    defaults = PARAMETERS[name]
    if len(arguments) > len(defaults):
        raise SpecError(f"{name} with {len(arguments)} arguments")
    given = dict(zip(defaults, arguments, strict=False)) | keywords
    unknown = [
        key for key in given.keys() - defaults.keys() if given[key] not in (None, False, 0, 1.0)
    ]
    if unknown:
        raise SpecError(f"{name} with {min(unknown)} = {given[min(unknown)]!r}")
    parameters = {key: given.get(key, default) for key, default in defaults.items()}
    if parameters.get("qnoise_factor", 1.0) not in (1, 1.0):
        raise SpecError(f"{name}: qnoise_factor is {parameters['qnoise_factor']!r}, not 1")
    if parameters.get("scale_axis") is not None:
        raise SpecError(f"{name}: a scale_axis of its own")
    return Spec(name, parameters)
