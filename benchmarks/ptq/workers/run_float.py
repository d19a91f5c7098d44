"""The float network itself."""

from worker import Job, onnxruntime_runner


def main() -> None:
    """Evaluates the network as it is."""
    job = Job()
    job.quantised()
    job.evaluate(onnxruntime_runner(job.model, job.input))


if __name__ == "__main__":
    main()
