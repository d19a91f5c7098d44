"""AMD Quark's preset VINT8 with weights per channel: maps and weights at powers of two.

Evaluated by onnxruntime with Quark's operators, if the file has any.
"""

import copy
from collections.abc import Iterator

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import ModelQuantizer, get_library_path
from quark.onnx.quantization.config.config import Config
from quark.onnx.quantization.config.custom_config import VINT8_CONFIG
from worker import Job


class _Reader(CalibrationDataReader):
    def __init__(self, name: str, samples: np.ndarray) -> None:
        self._feeds = [{name: samples[index : index + 1]} for index in range(len(samples))]
        self._left: Iterator[dict[str, np.ndarray]] = iter(self._feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, None at the end."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Starts again: Quark reads the samples more than once."""
        self._left = iter(self._feeds)

    reset_iter = rewind

    def __len__(self) -> int:
        return len(self._feeds)


def main() -> None:
    """Quantises and evaluates."""
    job = Job()
    quantised = job.folder / "quantised.onnx"
    config = copy.deepcopy(VINT8_CONFIG)
    config.per_channel = True
    config.extra_options["UseRandomData"] = False
    reader = _Reader(job.input, job.calibration)
    ModelQuantizer(Config(global_quant_config=config)).quantize_model(
        str(job.model), str(quantised), reader
    )
    job.quantised()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.register_custom_ops_library(get_library_path())
    session = ort.InferenceSession(str(quantised), options, providers=["CPUExecutionProvider"])
    job.evaluate(lambda sample: session.run(None, {job.input: sample})[0])


if __name__ == "__main__":
    main()
