"""Architectures, search spaces, shapes, costs, torch modules and ONNX graphs of the MobileNetV3 class."""
