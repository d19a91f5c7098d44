"""Reading ONNX files safely, and bringing them to one opset."""
