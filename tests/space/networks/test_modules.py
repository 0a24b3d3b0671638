"""Torch modules: what is computed in another way than torch does it is the same."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from space.networks.modules import SmallDepthwise


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 4),
    channels=st.integers(1, 6),
    side=st.integers(1, 9),
    kernel=st.sampled_from((3, 5, 7)),
    stride=st.sampled_from((1, 2)),
)
def test_small_maps_train_as_torch_trains_them(count: int, channels: int, side: int, kernel: int, stride: int) -> None:
    """Depthwise convolution by matrices has torch's output and both of its gradients, whatever the sizes."""
    drawn = torch.Generator().manual_seed(side)
    x = torch.randn(count, channels, side, side, generator=drawn, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(channels, 1, kernel, kernel, generator=drawn, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(x, weight, None, stride, kernel // 2, 1, channels)
    found = SmallDepthwise.apply(x, weight, stride)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, expected)
    towards = torch.randn(expected.shape, generator=drawn, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, (x, weight), towards)
    for one, other in zip(torch.autograd.grad(found, (x, weight), towards), wanted, strict=True):
        torch.testing.assert_close(one, other)
