"""Convolutions and products for inference that do what comes next in the same pass: a sum, a ReLU, a GELU.

`Convolution` and `Linear` are plain torch and go wherever torch goes, into exported programs too. Their packed twins
hold weights once and for all in the order in which oneDNN multiplies, and let its kernels add and clip while they
write: what torch.compile makes of a frozen network on a CPU, without its minutes of compiling.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

PACKING = threading.Lock()  # a page may ask for two first predictions at once
FEW = 2**16  # weights of a product that stays in float32: to round what goes in takes longer than it saves


class Convolution(nn.Module):
    """relu(convolution + addend), batch norm folded in; with or without each of them."""

    def __init__(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, relu: bool = False, dtype: torch.dtype | None = None
    ) -> None:
        """`dtype`: that it computes in, None: as the convolution's weights."""
        super().__init__()
        conv = conv if norm is None else fuse_conv_bn_eval(conv, norm)
        self.dtype, self.relu = dtype or conv.weight.dtype, relu
        self.padding, self.stride, self.dilation, self.groups = conv.padding, conv.stride, conv.dilation, conv.groups
        weight = conv.weight.detach().to(self.dtype).contiguous(memory_format=torch.channels_last)
        bias = None if conv.bias is None else conv.bias.detach().to(self.dtype)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(
        self, x: Float[Tensor, "b i h w"], addend: Float[Tensor, "b o y x"] | None = None, inplace: bool = False
    ) -> Float[Tensor, "b o y x"]:
        """`inplace`: the addend's memory may be written over."""
        y = F.conv2d(x.to(self.dtype), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if addend is not None:
            y = y + addend
        return F.relu(y) if self.relu else y


class PackedConvolution(Convolution):
    """The same by oneDNN. The first image decides on the order of the weights; others are taken, too."""

    packed = False

    def forward(
        self, x: Float[Tensor, "b i h w"], addend: Float[Tensor, "b o y x"] | None = None, inplace: bool = False
    ) -> Float[Tensor, "b o y x"]:
        """`inplace`: the addend's memory may be written over."""
        x, ops = x.to(self.dtype), torch.ops.mkldnn
        sizes = self.padding, self.stride, self.dilation, self.groups
        if not self.packed:
            with PACKING:
                if not self.packed:
                    self.weight = ops._reorder_convolution_weight(self.weight, *sizes, list(x.shape))
                    self.packed = True
        if addend is None:
            return ops._convolution_pointwise(
                x, self.weight, self.bias, *sizes, "relu" if self.relu else "none", [], ""
            )
        rest = self.weight, self.bias, *sizes, "add", 1.0, "relu" if self.relu else None, [], None
        if inplace:
            return ops._convolution_pointwise_.binary(addend, x, *rest)
        return ops._convolution_pointwise.binary(x, addend, *rest)


class Linear(nn.Module):
    """gelu(x W^T + b), with or without the GELU, in float32 or rounded to `dtype` on the way in."""

    def __init__(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None, gelu: bool, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.gelu = dtype, gelu
        self.register_buffer("weight", weight.detach().to(dtype).contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        y = F.linear(x.to(self.dtype), self.weight, self.bias)
        return F.gelu(y) if self.gelu else y


class PackedLinear(Linear):
    """The same by oneDNN, for half precision: in float32 torch's own product is as fast."""

    packed = False

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        x, ops = x.to(self.dtype), torch.ops.mkldnn
        if not self.packed:
            with PACKING:
                if not self.packed:
                    self.weight = ops._reorder_linear_weight(self.weight, x[..., 0].numel())
                    self.packed = True
        return ops._linear_pointwise(x, self.weight, self.bias, "gelu" if self.gelu else "none", [], "none")


@dataclass(frozen=True)
class Kit:
    """Which of the twins to build, in which type."""

    packed: bool
    dtype: torch.dtype  # of convolutions and of large products

    def convolution(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, relu: bool = False) -> Convolution:
        """relu(norm(conv))."""
        return (PackedConvolution if self.packed else Convolution)(conv, norm, relu, self.dtype)

    def linear(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None, gelu: bool = False) -> Linear:
        """gelu(x W^T + b)."""
        dtype = self.dtype if weight.numel() >= FEW else weight.dtype
        half = dtype in (torch.bfloat16, torch.float16)
        return (PackedLinear if self.packed and half else Linear)(weight, bias, gelu, dtype)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN's kernels are here and know `dtype`."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.float32:
        return hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
