"""The simulator's engine: a network as one ONNX graph on integer-valued floats."""
