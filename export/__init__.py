"""From weights to something that runs: the bundle, its runtime, the ONNX writers."""
