"""How good the outputs of a quantised network are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def scores(outputs: np.ndarray, floats: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compares outputs with those of the float network.

    Args:
        outputs: ``[N, classes]`` of the quantised network.
        floats: of the float network.
        labels: true classes ``[N]``; empty where unknown.

    Returns:
        ``qsnr_db`` (signal over noise of all outputs), ``agreement`` (share of equal classes), and
        with labels ``top1``, ``difference`` (paired, in points), ``lost`` and ``gained`` (images
        that only one of the two gets right) and ``error`` (standard error of ``difference``).
    """
    guesses, references = outputs.argmax(1), floats.argmax(1)
    noise = float(np.square(outputs.astype(np.float64) - floats).sum())
    signal = float(np.square(floats.astype(np.float64)).sum())
    found: dict[str, Any] = {
        "qsnr_db": 10 * math.log10(signal / noise) if noise else math.inf,
        "agreement": float(np.mean(guesses == references)),
    }
    if len(labels):
        right, before = guesses == labels, references == labels
        lost, gained = int(np.sum(before & ~right)), int(np.sum(right & ~before))
        found |= {
            "top1": float(np.mean(right)),
            "difference": 100 * (gained - lost) / len(labels),
            "lost": lost,
            "gained": gained,
            "error": 100 * math.sqrt(lost + gained) / len(labels),
        }
    return found
