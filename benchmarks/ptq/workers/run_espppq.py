"""esp-ppq for ESP32-P4: maps at powers of two, weights at powers of two per channel.

``algorithm`` is kl, mse, percentile or minmax; evaluated by its own executor.
"""

import numpy as np
import torch
from esp_ppq import QuantizationSettingFactory
from esp_ppq.api import espdl_quantize_onnx
from esp_ppq.executor import TorchExecutor
from worker import Job


def main() -> None:
    """Quantises and evaluates."""
    job = Job()
    setting = QuantizationSettingFactory.espdl_setting()
    setting.quantize_activation_setting.calib_algorithm = job.options["algorithm"]
    samples = [torch.from_numpy(job.calibration[i : i + 1]) for i in range(len(job.calibration))]
    graph = espdl_quantize_onnx(
        onnx_import_file=str(job.model),
        espdl_export_file=str(job.folder / "net.espdl"),
        calib_dataloader=samples,
        calib_steps=len(samples),
        input_shape=list(samples[0].shape),
        target="esp32p4",
        num_of_bits=8,
        setting=setting,
        error_report=False,
        skip_export=True,
        verbose=0,
    )
    job.quantised()
    torch.set_num_threads(1)  # single samples of small networks
    executor = TorchExecutor(graph=graph, device="cpu")

    def run(sample: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: torch.Tensor = executor(torch.from_numpy(sample))[0]
        return found.numpy()

    job.evaluate(run)


if __name__ == "__main__":
    main()
