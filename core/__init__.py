"""dlaconv: from a quantised network to the fixed-point ONNX of the ACCESS DLA."""
