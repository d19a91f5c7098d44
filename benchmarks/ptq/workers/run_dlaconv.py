"""dlaconv: ``from-onnx --calibrate``, run by the bit-true simulator (host parts by onnxruntime).

Options are those of `dlaconv.Options`. Nothing may break a rule of the hardware.
"""

from dataclasses import fields

import numpy as np
from worker import Job

import dlaconv


def main() -> None:
    """Converts and evaluates."""
    job = Job()
    known = {item.name for item in fields(dlaconv.Options)}
    missing = sorted(set(job.options) - known)
    if missing:
        raise SystemExit(f"this version has no option {', '.join(missing)}")
    calibration = job.folder / "calibration.npz"
    np.savez(calibration, **{job.input: job.calibration})
    output = job.folder / "net.dla.onnx"
    options = dlaconv.Options(calibrate=calibration, partition=True, verify=False, **job.options)
    conversion = dlaconv.convert(job.model, output, frontend="onnx", options=options)
    work = conversion.report["summary"]["macs"]
    job.quantised(
        host_share=work["host"] / max(work["source"], 1),
        rules_broken=sorted({item.rule for item in conversion.diagnostics.errors}),
    )
    report = output.with_suffix(".json")

    def run(samples: np.ndarray) -> np.ndarray:
        return next(iter(dlaconv.run_chain(report, {job.input: samples}).values()))

    job.evaluate(run, rows=256)


if __name__ == "__main__":
    main()
