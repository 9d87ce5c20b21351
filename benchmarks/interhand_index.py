"""How long a set of InterHand2.6M's size takes to open, and how much memory:  python benchmarks/interhand_index.py

Writes label files in the official format (1.3 million pictures of 81,250 moments by default, 1.1 GB, random numbers)
into a temporary folder, opens them twice in processes of their own, and prints seconds (wall and CPU), peak memory, and
what the seconds that are not CPU were spent on.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

VIEWS = 16  # cameras
FRAMES = 3250  # moments of a capture
SPLIT = "train"


def write(root: Path, pictures: int) -> None:
    """The four JSON files of one split."""
    rng = random.Random(0)
    folder = root / "annotations" / SPLIT
    folder.mkdir(parents=True)
    stem = f"{folder}/InterHand2.6M_{SPLIT}_"
    moments = -(-pictures // VIEWS)
    captures = -(-moments // FRAMES)
    cameras = [str(400000 + 2 * i) for i in range(VIEWS)]
    masks = [str([[int(rng.random() < 0.97)] for _ in range(42)]) for _ in range(16)]
    worlds = [str([[round(rng.uniform(-900, 900), 4) for _ in range(3)] for _ in range(42)]) for _ in range(64)]
    fits = [_fit(rng) for _ in range(64)]
    kinds = ("right", "left", "interacting", "interacting")

    def place(number: int) -> tuple[int, int]:
        return divmod(number // VIEWS, FRAMES)

    with Path(f"{stem}data.json").open("w") as file:
        file.write('{"images": [')
        for n in range(pictures):
            capture, frame = place(n)
            camera, sequence = cameras[n % VIEWS], f"{frame // 250:04d}_dh_touchROM"
            name = f"Capture{capture}/{sequence}/cam{camera}/image{frame}.jpg"
            file.write(
                f'{", " if n else ""}{{"id": {n}, "file_name": "{name}", '
                f'"width": 334, "height": 512, "capture": {capture}, "subject": {capture}, "seq_name": "{sequence}", '
                f'"camera": "{camera}", "frame_idx": {frame}}}'
            )
        file.write('], "annotations": [')
        for n in range(pictures):
            file.write(
                f'{", " if n else ""}{{"id": {n}, "image_id": {n}, "bbox": [{n % 97}.25, 120.5, 130.75, 210.0], '
                f'"joint_valid": {masks[n % 16]}, "hand_type": "{kinds[place(n)[1] % 4]}", "hand_type_valid": 1}}'
            )
        file.write("]}")
    for name, pool in (("joint_3d", worlds), ("MANO_NeuralAnnot", fits)):
        with Path(f"{stem}{name}.json").open("w") as file:
            for capture in range(captures):
                file.write(f'{", " if capture else "{"}"{capture}": ')
                for frame in range(min(FRAMES, moments - capture * FRAMES)):
                    value = pool[frame % 64]
                    if name == "joint_3d":
                        valid = masks[frame % 16]
                        value = f'{{"world_coord": {value}, "joint_valid": {valid}, "hand_type": "interacting"}}'
                    file.write(f'{", " if frame else "{"}"{frame}": {value}')
                file.write("}")
            file.write("}")
    with Path(f"{stem}camera.json").open("w") as file:
        one = {"campos": "[1.0, 2.0, 3.0]", "camrot": "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]"}
        one |= {"focal": "[1200.0, 1200.0]", "princpt": "[167.0, 256.0]"}
        parts = [f'"{k}": {{' + ", ".join(f'"{c}": {v}' for c in cameras) + "}" for k, v in one.items()]
        file.write("{" + ", ".join(f'"{c}": {{{", ".join(parts)}}}' for c in range(captures)) + "}")


def _fit(rng: random.Random) -> str:
    def numbers(count: int) -> str:
        return str([round(rng.gauss(0, 0.3), 8) for _ in range(count)])

    side = '{{"pose": {}, "shape": {}, "trans": {}}}'
    sides = [side.format(numbers(48), numbers(10), numbers(3)) for _ in range(2)]
    return f'{{"right": {sides[0]}, "left": {sides[1]}}}'


def open_once(root: Path) -> None:
    """Open the set and print what it took; run in a process of its own, for the memory's sake."""
    from mesh_graphormer_hand.data.datasets import interhand26m
    from mesh_graphormer_hand.mano import hand

    right, start, cpu = hand.load("open"), time.perf_counter(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dataset = interhand26m.build(interhand26m.Config(root=str(root), mano="open"), SPLIT, right, 224)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    dataset.annotation(len(dataset) // 2)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{len(dataset):,} hands: {wall:.1f} s ({cpu:.1f} s of CPU), peak memory {used.ru_maxrss / 2**20:.2f} GB, "
        f"of which {before / 2**20:.2f} GB before; {used.ru_inblock / 2048:.0f} MiB came from the disk, "
        f"{used.ru_nvcsw} waits, pushed off its core {used.ru_nivcsw} times"
    )


def main() -> None:
    """Write, then open twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1_300_000)
    parser.add_argument("--open", metavar="DIR", type=Path, help="open a folder that was written before")
    arguments = parser.parse_args()
    if arguments.open:
        open_once(arguments.open)
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write(Path(folder), arguments.pictures)
        size = sum(f.stat().st_size for f in Path(folder).rglob("*.json"))
        print(f"written: {size / 1e9:.2f} GB in {time.perf_counter() - start:.0f} s", flush=True)
        for what in ("first start", "second start"):
            print(what, end=": ", flush=True)
            subprocess.run([sys.executable, __file__, "--open", folder], check=True)


if __name__ == "__main__":
    main()
