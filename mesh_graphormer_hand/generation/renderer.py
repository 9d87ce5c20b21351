"""What is to be generated, and the renderer of one process: blocks of samples, encoded in a layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config import ConfigError
from ..virtual.config import EXTRA_LABELS

if TYPE_CHECKING:
    import numpy as np

    from ..contracts import HandBatch
    from ..virtual.config import VirtualConfig
    from ..virtual.generator import VirtualHands
    from .job import Shard, Store
    from .kinds import Source
    from .layouts.base import Encoding, Layout

CROP_LAYOUTS = ("webdataset", "freihand", "folder")
SHEET = 24  # samples on a contact sheet


@dataclass(frozen=True)
class Kind:
    """What --kind may name."""

    layouts: tuple[str, ...]  # the first one by default
    unit: str  # on the progress bar
    size: int = 224  # px, of the pictures, by default
    block: int = 0  # how many are rendered and written together; 0: the generator's own block


KINDS = {
    "crops": Kind(CROP_LAYOUTS, "img"),
    "frames": Kind(("coco",), "frame", size=640, block=4),
    "views": Kind(("groups",), "moment", block=4),
    "sequences": Kind(("groups",), "sequence", block=1),
}


@dataclass(frozen=True)
class Plan:
    """The checked arguments of a command line."""

    config: VirtualConfig
    hand: str
    device: str
    size: int
    layout: str
    encoding: Encoding
    shard: Shard
    left_fraction: float = 0.0
    labels: tuple[str, ...] = EXTRA_LABELS
    kind: str = "crops"

    @property
    def block(self) -> int:
        """How many samples are rendered and written together."""
        from ..virtual.generator import BLOCK

        return KINDS[self.kind].block or BLOCK

    def hands(self) -> VirtualHands | Source:
        """The generator."""
        from ..mano import hand
        from .kinds import source

        return source(self.kind, self.config, hand.load(self.hand), self.labels)


@dataclass
class Renderer:
    """Renders blocks and writes them; one lives in every process."""

    plan: Plan
    hands: VirtualHands | Source
    layout: Layout
    store: Store | None = None  # None: nothing is written

    @classmethod
    def of(cls, plan: Plan, store: Store | None = None) -> Renderer:
        """The renderer of this process, which from now on works with one thread: more change the last bits."""
        import cv2
        import torch

        from .job import layout_named

        try:
            torch.empty(0, device=plan.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"--device {plan.device}: {str(error).splitlines()[0]}") from None
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        hands = plan.hands()
        return cls(plan, hands, layout_named(plan.layout, plan.encoding, plan.config.split, hands.hand), store)

    def render(self, indices: list[int]) -> Any:
        """What the layout encodes. Some crops are to be left hands, whose pictures the layouts mirror."""
        import torch

        from ..virtual.rng import generator

        made = self.hands.render(indices, device=self.plan.device, image_size=self.plan.size)
        if self.plan.kind != "crops":
            return made
        batch: HandBatch = made.to("cpu")
        if not self.plan.left_fraction:
            return batch
        left = [bool(generator(self.plan.config, i, "side").random() < self.plan.left_fraction) for i in indices]
        return replace(batch, targets=replace(batch.targets, is_left=torch.tensor(left)))

    def work(self, number: int, indices: list[int]) -> int:
        """Render and write one block; gives its number back."""
        self.store.write(number, self.layout.encode(self.render(indices), indices))
        return number


def contact_sheet(renderer: Renderer) -> np.ndarray:
    """RGB picture of the first samples, each plain and then with its labels."""
    from .contact_sheet import labelled

    return labelled(renderer.render(list(range(min(SHEET, renderer.plan.config.count)))))
