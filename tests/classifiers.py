"""ONNX classifiers that another program than ours has made: the mean of each channel, times a matrix."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Of dark and bright pictures the first is the class of the larger output where the mean is below zero.
DARK_AND_BRIGHT = np.array([[-1.0, 1.0]] * 3, dtype=np.float32)


def classifier(
    path: Path,
    matrix: np.ndarray = DARK_AND_BRIGHT,
    *,
    side: int | str = 16,
    batch: int | str = 1,
    channels_last: bool = False,
    softmax: bool = False,
    inputs: int = 1,
    kind: int = TensorProto.FLOAT,
    open_channels: bool = False,
    also: bool = False,
) -> Path:
    """Write one for pictures of so many px, and of more than one `inputs`, which it adds up; `also` has two answers."""
    channels = "channels" if open_channels else len(matrix)
    shape = [batch, side, side, channels] if channels_last else [batch, channels, side, side]
    names = [f"picture{number}" for number in range(inputs)]
    nodes = [helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT) for name in names]
    nodes.append(helper.make_node("Sum", [f"{name}_float" for name in names], ["sum"]))
    axes = [1, 2] if channels_last else [2, 3]
    nodes.append(helper.make_node("ReduceMean", ["sum"], ["means"], axes=axes, keepdims=0))
    nodes.append(helper.make_node("MatMul", ["means", "matrix"], ["logits"]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["answer"], axis=1))
    answers = ["answer" if softmax else "logits", *(["means"] if also else [])]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in answers],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def with_metadata(path: Path, **metadata: str) -> Path:
    """The same file with metadata in it."""
    model = onnx.load(path)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path
