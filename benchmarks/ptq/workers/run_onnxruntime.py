"""onnxruntime.quantization: QDQ with float scales, signed, weights per channel.

``method`` is MinMax, Percentile or Entropy; maps that are ``symmetric`` have no zero points, as
those of ACCESS. ``quant_pre_process`` comes first, as its documentation advises; its time counts.
"""

from collections.abc import Iterator

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from worker import Job, onnxruntime_runner


class _Reader(CalibrationDataReader):
    def __init__(self, name: str, samples: np.ndarray) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter(
            [{name: samples[index : index + 1]} for index in range(len(samples))]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, None at the end."""
        return next(self._feeds, None)


def main() -> None:
    """Quantises and evaluates."""
    job = Job()
    prepared = job.folder / "prepared.onnx"
    quantised = job.folder / "quantised.onnx"
    quant_pre_process(str(job.model), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantised),
        _Reader(job.input, job.calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[job.options["method"]],
        extra_options={"ActivationSymmetric": job.options.get("symmetric", False)},
    )
    job.quantised()
    job.evaluate(onnxruntime_runner(quantised, job.input))


if __name__ == "__main__":
    main()
