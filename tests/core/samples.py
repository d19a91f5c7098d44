"""Documents and stand-ins that several tests share."""

import copy

from dlaconv.diagnostics import Diagnostic, Location, Severity

FINDING = Diagnostic(
    "IO-3",
    "map-channels",
    "24 channels, no multiple of 16",
    Severity.WARNING,
    Location("net.onnx", 0, "conv1", "Conv"),
    help="pad the channels",
    notes=("the hardware works on 16 channels at once",),
)

_DIFFERENCE = {
    "count": 640,
    "differing": 3,
    "clipped": 0,
    "beyond": 0,
    "largest": 1.0,
    "qsnr_db": 45.3,
    "cosine": 0.999987,
}
_EXACT = {**_DIFFERENCE, "differing": 0, "largest": 0.0, "qsnr_db": None, "cosine": 1.0}

ARGMAX = {
    "samples": 64,
    "kept": 61,
    "near_ties": [3, 20, 49],
    "changed": [
        {"sample": 20, "source": 7, "hardware": 9, "apart": 0.18},
        {"sample": 24, "source": 6, "hardware": 2, "apart": 2.12},
        {"sample": 49, "source": 0, "hardware": 3, "apart": 0.3},
    ],
}

VERIFICATION = {
    "passed": True,
    "samples": 4,
    "inputs": "random inputs",
    "rounding": "half-even",
    "outputs": {"logits": _DIFFERENCE},
    "argmax": {"logits": ARGMAX},
    "maps": [
        {
            "name": "logits",
            "layer": "fc",
            "class": "rescaled",
            "real_step": 0.03,
            "accumulated": _DIFFERENCE,
            "local": _EXACT,
            "predicted_share": 0.0042,
        }
    ],
    "unmatched": ["relu_2"],
    "source_options": ["bits=8"],
}

REPORT = {
    "dlaconv": "0.1.0",
    "source": {
        "file": "net.onnx",
        "sha256": "0" * 64,
        "further": [{"file": "net.onnx.data", "sha256": "1" * 64}],
        "frontend": "qonnx",
        "options": ["bits=8"],
        "producer": "pytorch 2.13",
    },
    "output": {
        "file": "net.dla.onnx",
        "emitted": {"qdq": "net.dla.qdq.onnx", "sim": "net.dla.sim.onnx"},
        "further": ["net.prototxt"],
    },
    "target": {"name": "ACCESS", "version": "1.2.0"},
    "options": {
        "target": None,
        "policy": "absorb",
        "io": "pin",
        "convention": "guide",
        "calibrate": "photos",
        "images": {},
        "fold_preprocess": False,
        "border_channel": False,
        "ranges": "auto",
        "qconfig": None,
        "calibration_cache": None,
        "optimise": 1,
        "shapes": {"x": [1, 3, 8, 8]},
        "legalise": "exact",
        "pad_outputs": False,
        "partition": None,
        "allow_violations": False,
        "verify": True,
        "verify_with": None,
        "samples": 4,
        "seed": 0,
        "rounding": "half-even",
        "activation_order": "mac",
        "unsigned_maps": False,
        "dump_stages": None,
        "emit": ["qdq", "sim"],
    },
    "calibration": {"kind": "images", "source": "photos", "samples": 3, "skipped": 1},
    "io": {
        "inputs": [
            {
                "name": "x",
                "layout": "NCHW",
                "shape": [1, 3, 8, 8],
                "dtype": "int8",
                "qmin": -128,
                "qmax": 127,
                "scale": 0.0078125,
                "real_step": 0.0078125,
                "feed": "int8 = clip(round(x / 0.0078125), -128, 127)",
            }
        ],
        "outputs": [
            {
                "name": "logits",
                "layout": "2-D",
                "shape": [1, 10],
                "dtype": "int8",
                "qmin": -128,
                "qmax": 127,
                "scale": 0.125,
                "real_step": 0.125,
                "read": "real = int8 * 0.125",
            }
        ],
    },
    "graph": {"inputs": ["x"], "outputs": ["y"]},
    "parts": [
        {
            "file": "net.dla.onnx",
            "side": "accelerator",
            "inputs": ["x"],
            "outputs": ["y/logits"],
            "macs": 990,
        },
        {
            "file": "net.tail.onnx",
            "side": "host",
            "inputs": ["y/logits"],
            "outputs": ["y"],
            "macs": 10,
        },
    ],
    "host": [{"layer": "softmax", "op": "Softmax", "reason": "the hardware has no Softmax"}],
    "summary": {
        "macs": {"source": 1000, "host": 10},
        "layers": 7,
        "maps": {"exact": 5, "rescaled": 2, "requantised": 0, "clipped": 0, "derived": 1},
        "weights": {"kept": 3, "requantised": 1, "derived": 0},
        "qsnr_db": {"logits": 45.3},
    },
    "tensors": [
        {
            "name": "logits",
            "kind": "map",
            "layer": "fc",
            "class": "rescaled",
            "source": {
                "bits": 8,
                "signed": False,
                "narrow": False,
                "qmin": 0,
                "qmax": 255,
                "step": 0.06,
                "zero_point": 0.0,
                "rounding": "half-even",
            },
            "target": {
                "bits": 8,
                "signed": True,
                "exponent": -3,
                "step": 0.125,
                "real_step": 0.12,
            },
            "note": "8-bit integers in units of 2",
            "override": {"file": "net.yaml", "line": 3, "text": "threshold 6.0"},
        },
        {
            "name": "fc/weights",
            "kind": "weight",
            "layer": "fc",
            "class": "requantised",
            "source": {"steps": [0.01, 0.02]},
            "target": {"bits": 8, "steps": [0.01, 0.02], "ideal_steps": [0.01, 0.0201]},
            "note": "",
            "channels": [1],
        },
        {
            "name": "fc/bias",
            "kind": "bias",
            "layer": "fc",
            "class": "exact",
            "source": None,
            "target": {"bits": 16, "step_in": 0.0078125},
            "note": "",
        },
    ],
    "verification": VERIFICATION,
    "reference": {"program": "tensorflow", "samples": 4, "largest": 3e-7, "allowed": 1e-3},
    "rules": {"passed": ["IO-1", "CV-1"], "violated": {"IO-3": 2}},
    "rewrites": [
        {"name": "fold_batch_norm", "layer": "bn1", "detail": "folded", "exact": True, "macs": 0},
        {
            "name": "requantise",
            "layer": "q2",
            "detail": "identity convolution",
            "exact": False,
            "macs": 64,
        },
    ],
    "diagnostics": [FINDING.as_json()],
    "timings": {"clean": 0.01, "verify": 1.25},
}

CHECK = {
    "dlaconv": "0.1.0",
    "file": "net.dla.onnx",
    "convention": "guide",
    "convention_source": "recorded in the file's metadata",
    "passed": ["CV-1", "IO-1"],
    "violated": {"IO-3": 1},
    "undecided": ["GR-2"],
    "diagnostics": [FINDING.as_json()],
}

STRIP = {
    "dlaconv": "0.1.0",
    "file": "net.dla.onnx",
    "output": "net.plain.onnx",
    "removed": {"input_scale": 2, "weight_ch_scales": 1},
}

_MAP = {
    "bits": 8,
    "signed": True,
    "smallest_step": 0.125,
    "largest_step": 0.125,
    "real_step": 0.12,
    "low": -15.36,
    "high": 15.24,
    "class": "rescaled",
}

SHOW = {
    "dlaconv": "0.1.0",
    "file": "net.dla.json",
    "kind": "chain",
    "parts": [
        {
            "file": "net.dla.onnx",
            "side": "accelerator",
            "inputs": [{"name": "input", "shape": [1, None, 8, 8], "maps": [_MAP]}],
            "layers": [
                {
                    "name": "relu",
                    "layer": "conv1",
                    "op": "Conv + Relu",
                    "inputs": ["input"],
                    "shape": None,
                    "parameters": 432,
                    "macs": 27648,
                    "maps": [{**_MAP, "class": None}],
                    "weights": {
                        "bits": 8,
                        "channels": 16,
                        "smallest_step": 0.01,
                        "largest_step": 0.02,
                    },
                }
            ],
            "parameters": 432,
        }
    ],
    "total": {"layers": 1, "parameters": 432, "macs": 27648},
}

_QUALITY = {"qsnr_db": 31.2, "cosine": 0.9996, "max_error": 0.25}

COMPARE = {
    "dlaconv": "0.1.0",
    "source": "net.onnx",
    "source_options": ["bits=8"],
    "converted": "net.dla.onnx",
    "inputs": "x.npz",
    "samples": 4,
    "min_qsnr_db": 30.0,
    "passed": True,
    "outputs": {"logits": _QUALITY},
    "layers": [
        {
            "name": "logits",
            "layer": "fc",
            "file": "net.dla.onnx",
            "class": "derived",
            "real_step": 0.125,
            "saturated": 0.0012,
            "isolated": {**_QUALITY, "qsnr_db": None, "max_error": 0.0},
            "accumulated": _QUALITY,
            "worst_channels": [{"channel": 3, "qsnr_db": 20.1, "max_error": 0.25, "share": 0.4}],
        }
    ],
    "argmax": {"logits": ARGMAX},
    "unmatched": ["relu_2"],
}

_ERROR = {"noise": 0.001, "qsnr_db": 30.0}

SENSITIVITY = {
    "dlaconv": "0.1.0",
    "source": "net.onnx",
    "data": "x.npz",
    "samples": 4,
    "everything": _ERROR,
    "layers": [
        {
            "name": "logits",
            "layer": "fc",
            "op": "Gemm",
            "only": _ERROR,
            "all_but": {"noise": None, "qsnr_db": None},
        }
    ],
}

VALIDATE = {
    "dlaconv": "0.1.0",
    "converted": "net.dla.onnx",
    "source": "net.onnx",
    "source_options": ["bits=8"],
    "inputs": "x.npz",
    "labels": "y.npy",
    "samples": 200,
    "accuracy": {"top1": 96.5, "top5": None, "right": 193, "ties": 1},
    "source_accuracy": {"top1": 97.0, "top5": 100.0, "right": 194, "ties": 0},
    "paired": {
        "difference": -0.5,
        "low": -2.2,
        "high": 1.2,
        "lost": 2,
        "gained": 1,
        "agreement": 97.5,
    },
}

DUMP = {
    "dlaconv": "0.1.0",
    "file": "net.dla.onnx",
    "kind": "converted",
    "output": "maps.npz",
    "maps": {"logits": {"shape": [2, 10], "dtype": "int8", "min": -128, "max": 127}},
}

FAILURE = {"dlaconv": "0.1.0", "exit_code": 1, "diagnostics": [FINDING.as_json()]}


def report(**changes):
    """A report with other values at its top level."""
    return copy.deepcopy(REPORT) | changes
