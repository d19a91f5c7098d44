"""Post-training quantisation beside other tools: one run, one calibration set, see README.md."""
