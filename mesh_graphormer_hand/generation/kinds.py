"""What hand-generate can render: crops, whole frames, moments before several cameras, sequences; and their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import ConfigError
from ..contracts import HandBatch
from ..mano.hand import Hand
from ..virtual import frames, views
from ..virtual.config import VirtualConfig
from ..virtual.generator import VirtualHands
from ..virtual.sequences import VirtualSequences


@dataclass
class FramesConfig(VirtualConfig):
    """The generator's own options, and `frames`: what else a frame has."""

    frames: frames.FrameOptions = field(default_factory=frames.FrameOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.frames.hands
        if not 1 <= len(weights) <= frames.MAX_HANDS + 1 or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(f"frames.hands: {weights} should be weights of 0, 1, ... up to {frames.MAX_HANDS} hands")


@dataclass
class ViewsConfig(VirtualConfig):
    """The generator's own options and the cameras."""

    views: int = 2  # cameras of a moment

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.views <= views.MAX_VIEWS:
            raise ConfigError(f"views: {self.views} should be 1 to {views.MAX_VIEWS}")


@dataclass
class SequencesConfig(VirtualConfig):
    """The generator's own options and the times."""

    length: int = 32  # pictures of a sequence, which are rendered together
    rate: float = 30.0  # pictures a second

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 1 or self.rate <= 0:
            raise ConfigError(f"length: {self.length}, rate: {self.rate}: both should be above 0")


SCHEMAS = {"crops": VirtualConfig, "frames": FramesConfig, "views": ViewsConfig, "sequences": SequencesConfig}


@dataclass(frozen=True)
class Source:
    """A generator of something else than crops, called as VirtualHands is."""

    hand: Hand
    make: Callable[[list[int], str, int], Any]

    def render(self, indices: list[int], device: str, image_size: int) -> Any:
        """Frames, or a HandBatch for each moment or sequence, whose rows are its pictures."""
        return self.make(indices, device, image_size)


def source(kind: str, config: VirtualConfig, hand: Hand, extra: Sequence[str]) -> VirtualHands | Source:
    """The generator of `kind`, a key of SCHEMAS, with the labels `extra` where it makes such."""
    if kind == "frames":
        photos = frames.VirtualFrames(config, hand, config.frames)
        return Source(hand, lambda indices, device, size: photos.render(indices, size, device))
    if kind == "views":
        moments = views.VirtualViews(config, hand, config.views, extra)
        return Source(
            hand,
            lambda indices, device, size: [HandBatch.cat(moments.render([i], device, size)).to("cpu") for i in indices],
        )
    if kind == "sequences":
        moving = VirtualSequences(config, hand, config.length, config.rate, extra)
        return Source(hand, lambda indices, device, size: [moving.render(i, device, size).to("cpu") for i in indices])
    return VirtualHands(config, hand, extra)
