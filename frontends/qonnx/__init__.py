"""The QONNX frontend: Quant, IntQuant, BipolarQuant and Trunc."""
