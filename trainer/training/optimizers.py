"""The optimizers that recipes name, as one: torch's own, and Muon for the layers that are matrices."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.training.recipe import Recipe

# The quintic iteration of Jordan et al. 2024 ("Muon: an optimizer for hidden layers"), after which all singular values
# lie between about 0.7 and 1.2.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MUON_MOMENTUM = 0.95
CLASSIFIER = "head.classifier."
"""How the names of the last layer's parameters begin."""


class Muon(torch.optim.Optimizer):
    """Momentum whose step for each matrix is made orthogonal (Jordan et al. 2024); takes outputs x inputs (x 1 x 1).

    In float32: torch's own iterates in bfloat16, which CPUs without units for it are slow at.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override] # noqa: ANN401, ARG002 - torch's interface
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["momentum"])

    def _step(self, parameter: Tensor, rate: float, momentum: float) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(buffer, momentum).flatten(1)
        # A tall matrix moves its outputs as much as a square one does.
        stretch = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        parameter.add_(orthogonal(matrix).view_as(parameter), alpha=-rate * stretch)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with equal singular values, about 1: U S V^T becomes about U V^T; float32 M x N."""
    a, b, c = _QUINTIC
    x = matrix.float()
    is_tall = x.shape[0] > x.shape[1]
    x = x.mT if is_tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


class Optimizers:
    """All optimizers of a training, stepped together; rates follow the recipe's schedule."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        matrices = _pointwise(model) if recipe.optimizer == "muon" else []
        rest = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
        groups = _groups(rest, recipe, recipe.learning_rate)
        if recipe.body_rate != 1.0:
            classifier = [p for name, p in model.named_parameters() if name.startswith(CLASSIFIER)]
            body = [p for p in rest if all(p is not each for each in classifier)]
            groups = [
                *_groups(classifier, recipe, recipe.learning_rate),
                *_groups(body, recipe, recipe.body_rate * recipe.learning_rate),
            ]
        device = next(model.parameters()).device.type
        self.all: list[torch.optim.Optimizer] = []
        if recipe.optimizer == "rmsprop":
            # Decay 0.9 is the paper's; epsilon that of torchvision's training of MobileNetV3, as TensorFlow adds it
            # inside the root, where the same number is another one.
            self.all.append(
                torch.optim.RMSprop(groups, lr=recipe.learning_rate, alpha=0.9, momentum=recipe.momentum, eps=0.0316)
            )
        else:
            nesterov = recipe.momentum > 0
            self.all.append(
                torch.optim.SGD(
                    groups,
                    lr=recipe.learning_rate,
                    momentum=recipe.momentum,
                    nesterov=nesterov,
                    fused=device in {"cpu", "cuda"},  # a quarter of the time on a CPU
                )
            )
        if matrices:
            rate = recipe.body_rate * recipe.matrix_rate  # the classifier is none of them
            self.all.append(Muon(matrices, lr=rate, momentum=_MUON_MOMENTUM))
        self._rates = [group["lr"] for each in self.all for group in each.param_groups]

    def set_factor(self, factor: float) -> None:
        """Let the next step be at so many times the recipe's rates."""
        groups = [group for each in self.all for group in each.param_groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for each in self.all:
            each.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """What they remember, by "<optimizer>.<parameter>.<what>"."""
        return {
            f"{number}.{index}.{name}": torch.as_tensor(value)
            for number, each in enumerate(self.all)
            for index, values in each.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Remember what `state` gave."""
        for number, each in enumerate(self.all):
            parameters = [parameter for group in each.param_groups for parameter in group["params"]]
            remembered: dict[int, dict[str, Tensor]] = {}
            for full_name, value in state.items():
                of, index, name = full_name.split(".")
                if int(of) == number:
                    remembered.setdefault(int(index), {})[name] = _laid_out(value, parameters[int(index)])
            each.load_state_dict({"state": remembered, "param_groups": each.state_dict()["param_groups"]})


def _groups(parameters: Sequence[Tensor], recipe: Recipe, rate: float) -> list[dict[str, Any]]:
    """With and without weight decay."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay, "lr": rate},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "lr": rate},
    ]


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """In the memory layout of the parameter: fused optimizers go through both as they lie in memory."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _pointwise(model: nn.Module) -> list[Tensor]:
    """The weights of 1 x 1 convolutions: matrices, and most of a network's weights.

    The head's linear layers are matrices, too, but to make 512 x 288 orthogonal takes as long as all others together.
    """
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and min(module.weight.shape[:2]) > 1
    ]
