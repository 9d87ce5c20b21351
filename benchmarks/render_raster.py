"""How fast is our rasteriser beside PyTorch3D's, on the 778-vertex open hand at 224 px, in one interleaved run?

python benchmarks/render_raster.py [images=8] [rounds=10]   (needs PyTorch3D; one thread, then PyTorch's own)
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.paths import MANO_ASSETS
from mesh_graphormer_hand.render import pytorch3d_backend
from mesh_graphormer_hand.render.rasterizer import raster


def scene(images: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, int]]:
    """The open hand, turned at random, in front of a camera that it fills."""
    with np.load(MANO_ASSETS / "open_hand.npz", allow_pickle=False) as data:
        vertices, faces = torch.tensor(data["v_template"]), torch.tensor(data["faces"].astype(np.int64))
    turns = axis_angle_to_matrix(torch.randn(images, 3, generator=torch.Generator().manual_seed(0)) * 1.5)
    vertices = (vertices - vertices.mean(0)) @ turns.transpose(1, 2) + torch.tensor([0, 0, 0.55])
    return vertices, faces, torch.tensor([[480.0, 480, 112, 112]]).repeat(images, 1), (224, 224)


def seconds(rasterize, arguments) -> float:
    start = time.perf_counter()
    rasterize(*arguments)
    return time.perf_counter() - start


def compare(images: int, rounds: int, threads: int) -> None:
    """Print the median times an image and their ratio, and how far the two agree."""
    torch.set_num_threads(threads)
    arguments = scene(images)
    ours, theirs = raster.rasterize(*arguments).dense(), pytorch3d_backend.rasterize(*arguments).dense()
    same = ours[1] == theirs[1]
    times = (
        np.array([[seconds(f.rasterize, arguments) for f in (raster, pytorch3d_backend)] for _ in range(rounds)])
        / images
    )
    median = np.median(times, 0) * 1e3
    print(
        f"{threads} thread(s), {images} image(s): ours {median[0]:.2f} ms an image, PyTorch3D {median[1]:.2f} ms, "
        f"median ratio {np.median(times[:, 1] / times[:, 0]):.0f}; faces equal on {100 * same.float().mean():.4f} % of "
        f"pixels, depth within {float((ours[0] - theirs[0])[same].abs().max()):.1e} m"
    )


if __name__ == "__main__":
    options = dict(item.split("=") for item in sys.argv[1:])
    own = torch.get_num_threads()
    for threads in sorted({1, own}):
        for images in (1, int(options.get("images", 8))):
            compare(images, int(options.get("rounds", 10)), threads)
