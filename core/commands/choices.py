"""Options that take one of a few words."""

from __future__ import annotations

import enum


class Policy(enum.StrEnum):
    """``--scale-policy``."""

    ABSORB = "absorb"
    NEAREST = "nearest"
    CEIL = "ceil"
    MSE = "mse"


class Io(enum.StrEnum):
    """``--io``."""

    PIN = "pin"
    ABSORB = "absorb"


class Convention(enum.StrEnum):
    """``--scale-convention``."""

    GUIDE = "guide"
    INT_PER_REAL = "int-per-real"


class HardwareRounding(enum.StrEnum):
    """``--rounding``; the modes of `dlaconv.ir.rounding` that hardware has."""

    HALF_EVEN = "half-even"
    HALF_UP = "half-up"
    HALF_AWAY = "half-away"
    FLOOR = "floor"


class Emit(enum.StrEnum):
    """``--emit``."""

    QDQ = "qdq"
    SIM = "sim"


class Legalise(enum.StrEnum):
    """``--legalise``."""

    OFF = "off"
    EXACT = "exact"
    ALL = "all"


class ActivationOrder(enum.StrEnum):
    """``--activation-order``."""

    MAC = "mac"
    AFTER_CLAMP = "after-clamp"
