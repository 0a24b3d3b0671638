"""Architectures as torch modules and ONNX graphs, and detectors made of them."""
