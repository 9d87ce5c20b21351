"""A transformer encoder (post-norm, as BERT) whose layers may hold a graph convolution over some of the tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..config import ConfigError
from .graph_conv import GraphResidualBlock

MAX_TOKENS = 512  # rows of the published position tables
EPS = 1e-12  # BERT's
INIT_STD = 0.02  # BERT's


@dataclass
class EncoderConfig:
    widths: list[int] = field(default_factory=lambda: [1024, 256, 64])  # of the encoders
    outputs: list[int] = field(default_factory=lambda: [512, 128])  # of all encoders but the last
    layers: int = 4  # of each encoder
    heads: int = 4
    dropout: float = 0.1
    graph: list[bool] = field(default_factory=lambda: [False, False, True])  # which encoders convolve over the mesh


@dataclass(frozen=True)
class Graph:
    """Which tokens form a graph, and its operator (`layers.graph.adjacency_edges`)."""

    start: int
    stop: int
    edges: Int64[Tensor, "2 e"]
    weights: Float[Tensor, "e"]


class SelfAttention(nn.Module):
    """Multi-head attention of the tokens to each other, with its residual and norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not split into {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, k, v = (rearrange(f(x), "b n (h d) -> b h n d", h=self.heads) for f in (self.query, self.key, self.value))
        y = rearrange(attend(q, k, v, self.dropout if self.training else 0.0), "b h n d -> b n (h d)")
        return self.norm(x + F.dropout(self.out(y), self.dropout, self.training))


def attend(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"], dropout: float
) -> Float[Tensor, "b h n d"]:
    """softmax(q k^T / sqrt(d)) v. On a CPU, torch's kernel takes two to five times as long in half precision, and its
    gradients have no bound where attention is sharper than float32 can tell: it computes exp(logits - their log-sum)
    anew, with other roundings. Plain products train there as fast and stay finite."""
    if q.device.type != "cpu" or q.dtype not in (torch.bfloat16, torch.float16):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    if torch.is_grad_enabled():
        weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1, dtype=torch.float32)
        return F.dropout(weights, dropout).to(v.dtype) @ v
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), dropout_p=dropout)


class EncoderLayer(nn.Module):
    """Attention, then (in some encoders) a graph convolution, then a feed-forward of twice the width."""

    def __init__(self, width: int, heads: int, dropout: float, graph: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, dropout)
        self.graph = GraphResidualBlock(width, EPS) if graph else None
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Float[Tensor, "b n c"], graph: Graph | None = None) -> Float[Tensor, "b n c"]:
        x = self.attention(x)
        if self.graph is not None:
            nodes = self.graph(x[:, graph.start : graph.stop], graph.edges, graph.weights)
            x = torch.cat([x[:, : graph.start], nodes.to(x.dtype), x[:, graph.stop :]], 1)
        return self.norm(x + self.dropout(self.feed_forward(x)))


class Encoder(nn.Module):
    """Tokens of `dim_in` -> tokens of `dim_out`: embedding, learned positions, layers, head, and a linear skip."""

    def __init__(
        self,
        dim_in: int,
        width: int,
        dim_out: int,
        layers: int,
        heads: int,
        dropout: float,
        graph: bool,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(dim_in, width)
        self.positions = nn.Embedding(max_tokens, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout, graph) for _ in range(layers))
        self.head = nn.Linear(width, dim_out)
        self.skip = nn.Linear(dim_in, dim_out)
        self.gradient_checkpointing = False  # trade time for memory in training; the hub's base class sets it by name
        self.apply(_initialise)

    def forward(self, tokens: Float[Tensor, "b n i"], graph: Graph | None = None) -> Float[Tensor, "b n o"]:
        """
        Raises:
            ValueError: more tokens than positions.
        """
        if tokens.shape[1] > len(self.positions.weight):
            raise ValueError(f"{tokens.shape[1]} tokens, but the encoder knows {len(self.positions.weight)} positions")
        x = self.dropout(self.embed(tokens) + self.positions.weight[: tokens.shape[1]])
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, graph, use_reentrant=False)
            else:
                x = layer(x, graph)
        return self.head(x) + self.skip(tokens)


def encoder_stack(config: EncoderConfig, dim_in: int, dim_out: int, max_tokens: int) -> nn.ModuleList:
    """The encoders one after another: tokens of `dim_in`, then of each of `config.outputs`, then of `dim_out`.

    Raises:
        ConfigError: lists of different lengths.
    """
    if not len(config.widths) == len(config.graph) == len(config.outputs) + 1:
        raise ConfigError("model.widths and model.graph name every encoder, model.outputs every encoder but the last")
    dims = [dim_in, *config.outputs, dim_out]
    shared = config.layers, config.heads, config.dropout
    return nn.ModuleList(
        Encoder(dims[i], width, dims[i + 1], *shared, graph=config.graph[i], max_tokens=max(MAX_TOKENS, max_tokens))
        for i, width in enumerate(config.widths)
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
