"""ONNX graphs straight from the description: the same graph is measured on a device and shipped to it.

Opset 17 and IR version 8, so that runtimes from ONNX Runtime 1.15 on load it; batch 1, fixed shapes, float32.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import numpy as np
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from space.arch import Activation
from space.errors import InvalidArchitecture
from space.keys import BlockKey, StageBlockKey, out_shape
from space.layers import Conv, Layer, Linear, Pool, SqueezeExcite, layers_of

OPSET = 17
IR_VERSION = 8
INPUT = "input"
OUTPUT = "output"
# External weights begin where a page does, so that they can be mapped into memory.
_PAGE = 4096

WeightSource = Callable[[str, tuple[int, ...]], np.ndarray | TensorProto]
"""Gives the float32 weight of a name and shape, or says where it lies; names are those of the torch modules."""


def random_weights(seed: int) -> WeightSource:
    """Weights for measuring: values of a trained network's size, so that no denormal number slows a kernel down."""
    rng = np.random.default_rng(seed)

    def draw(_name: str, shape: tuple[int, ...]) -> np.ndarray:
        fan_in = max(1, int(np.prod(shape[1:])))
        return np.asarray(rng.standard_normal(shape) / np.sqrt(fan_in), dtype=np.float32)

    return draw


def given_weights(weights: Mapping[str, np.ndarray]) -> WeightSource:
    """Weights from a mapping, as `space.networks.modules.folded_weights` makes it."""

    def look_up(name: str, shape: tuple[int, ...]) -> np.ndarray:
        found = weights.get(name)
        if found is None or found.shape != shape:
            got = "nothing" if found is None else f"shape {found.shape}"
            raise InvalidArchitecture(f"weight '{name}' should have shape {shape}, got {got}")
        return found

    return look_up


def external_weights(file: str, size: int, salt: str) -> WeightSource:
    """Weights that lie in a file of `size` bytes beside the model, as windows that may overlap.

    A kit's models share one such file, which the device that measures them makes itself. Where a window lies follows
    from `salt` and the weight's name.
    """

    def point(name: str, shape: tuple[int, ...]) -> TensorProto:
        length = 4 * int(np.prod(shape))
        if length > size:
            raise InvalidArchitecture(f"weight '{name}' of shape {shape} is larger than the {size} bytes of a kit")
        pages = (size - length) // _PAGE + 1
        page = int.from_bytes(hashlib.sha256(f"{salt}/{name}".encode()).digest()[:8], "big") % pages
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", file), ("offset", page * _PAGE), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    return point


class _Graph:
    """Collects nodes and initialisers while the layers are walked."""

    def __init__(self, weights: WeightSource) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.is_whole = True

    def node(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:  # noqa: ANN401 - whatever the operator takes
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        found = self.weights(name, shape)
        if isinstance(found, TensorProto):
            self.initializers.append(found)
            self.is_whole = False
        else:
            array = np.ascontiguousarray(found, dtype=np.float32)
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def constant(self, name: str, value: float) -> str:
        if all(known.name != name for known in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
        return name

    def conv(self, name: str, x: str, shape: tuple[int, int, int, int], *, stride: int = 1, groups: int = 1) -> str:
        side = shape[-1]
        inputs = [x, self.weight(f"{name}.weight", shape), self.weight(f"{name}.bias", shape[:1])]
        return self.node(
            "Conv",
            f"{name}.out",
            inputs,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[side // 2] * 4,
            group=groups,
        )

    def activation(self, name: str, x: str, kind: Activation | None) -> str:
        match kind:
            case None:
                return x
            case "relu":
                return self.node("Relu", f"{name}.act", [x])
            case "relu6":
                return self.node("Clip", f"{name}.act", [x, self.constant("zero", 0), self.constant("six", 6)])
            case "hswish":
                return self.node("HardSwish", f"{name}.act", [x])
        assert_never(kind)

    def layer(self, prefix: str, x: str, layer: Layer) -> str:
        name = f"{prefix}.{layer.name}"
        match layer:
            case Conv():
                shape = (layer.out_channels, layer.in_channels // layer.groups, layer.kernel_size, layer.kernel_size)
                y = self.conv(name, x, shape, stride=layer.stride, groups=layer.groups)
                return self.activation(name, y, layer.activation)
            case SqueezeExcite():
                return self.squeeze_excite(name, x, layer)
            case Pool():
                return self.node("GlobalAveragePool", f"{name}.out", [x])
            case Linear():
                return self.linear(name, x, layer)
        assert_never(layer)

    def squeeze_excite(self, name: str, x: str, layer: SqueezeExcite) -> str:
        wide, narrow = layer.channels, layer.squeeze_channels
        pooled = self.node("GlobalAveragePool", f"{name}.pool", [x])
        squeezed = self.conv(f"{name}.squeeze", pooled, (narrow, wide, 1, 1))
        active = self.node("Relu", f"{name}.squeeze.act", [squeezed])
        excited = self.conv(f"{name}.excite", active, (wide, narrow, 1, 1))
        if layer.gate == "hard_sigmoid":
            scale = self.node("HardSigmoid", f"{name}.scale", [excited], alpha=1 / 6, beta=0.5)
        else:
            scale = self.node("Sigmoid", f"{name}.scale", [excited])
        return self.node("Mul", f"{name}.out", [x, scale])

    def linear(self, name: str, x: str, layer: Linear) -> str:
        flat = self.node("Flatten", f"{name}.flat", [x])
        shape = (layer.out_channels, layer.in_channels)
        weights = [self.weight(f"{name}.weight", shape)]
        if layer.bias:
            weights.append(self.weight(f"{name}.bias", shape[:1]))
        y = self.node("Gemm", f"{name}.out", [flat, *weights], transB=1)
        return self.activation(name, y, layer.activation)

    def unit(self, name: str, x: str, key: BlockKey) -> str:
        y = x
        for layer in layers_of(key):
            y = self.layer(name, y, layer)
        if isinstance(key, StageBlockKey) and key.has_residual:
            return self.node("Add", f"{name}.sum", [x, y])
        return y


def build_graph(
    keys: Mapping[str, BlockKey], weights: WeightSource, *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A checked, serialised ONNX model of consecutive units: one block to be measured, or a whole network.

    Input 1 x in_channels x resolution^2, output 1 x out_channels x H x W, or 1 x num_classes behind a head.

    Raises:
        InvalidArchitecture: a weight is missing or has another shape than the unit needs.
    """
    graph = _Graph(weights)
    first, last = next(iter(keys.values())), list(keys.values())[-1]
    x = INPUT
    for name, key in keys.items():
        x = graph.unit(name, x, key)
    graph.nodes[-1].output[0] = OUTPUT  # x is what the last node puts out
    in_shape = [1, first.in_channels, first.resolution, first.resolution]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mobilenas",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, in_shape)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, *out_shape(last)])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mobilenas",
    )
    helper.set_model_props(model, dict(metadata or {}))
    if graph.is_whole:  # the checker looks for external weights on this machine's disk
        checker.check_model(model)
    return bytes(model.SerializeToString())
