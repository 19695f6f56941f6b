"""Images per second of hyperrun's CIFAR-10 feed against a DataLoader with torchvision's transforms, on the CPU.

Both pad by 4, crop 32x32, flip and normalise 50,000 random uint8 images in batches of 128, on all cores this process
may use. Needs no download. `python scripts/bench_feed.py [--images N] [--json]`; exit status 1 below a ratio of 5.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hyperrun.data.images import ImageSplit, cores, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.data.loader import ImageLoader

BATCH = 128
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Pictures(Dataset[Any]):
    """As torchvision's CIFAR10: a PIL image per item, put through the usual transforms."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        from torchvision import transforms

        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Any:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def images_per_s(batches: Iterable[Any]) -> float:
    """Return the rate over a whole epoch, start of workers included, as a user pays for it."""
    start, count = time.perf_counter(), 0
    for x, _ in batches:
        count += len(x)
    return count / (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="size of the training split")
    parser.add_argument("--repeat", type=int, default=3, help="epochs of each; the best one counts")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    n = cores()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (args.images + 20, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (args.images + 20,), generator=generator)
    cfg = ImageData("images", "random", None, True, 1, 10, 0, None, 4, True, 0, "device", n)
    train, test = ImageSplit(images[:-10], labels[:-10]), ImageSplit(images[-10:], labels[-10:])
    data = make_set("random", cfg, train=train, test=test, classes=[str(i) for i in range(10)])
    loader = ImageLoader(data, cfg, device=torch.device("cpu"), batch_size=BATCH, eval_batch_size=BATCH, seed=0)
    ours = max(images_per_s(loader.train_batches(epoch)) for epoch in range(args.repeat))
    pictures = Pictures(images[:-20], labels[:-20])
    theirs = {
        workers: max(
            images_per_s(DataLoader(pictures, BATCH, shuffle=True, drop_last=True, num_workers=workers))
            for _ in range(args.repeat)
        )
        for workers in (0, n)
    }
    ratio = ours / max(theirs.values())
    result = {
        "cores": n,
        "torch_threads": torch.get_num_threads(),
        "hyperrun_images_per_s": round(ours),
        **{f"torchvision_{workers}_workers_images_per_s": round(rate) for workers, rate in theirs.items()},
        "ratio": round(ratio, 1),
    }
    print(json.dumps(result) if args.json else "\n".join(f"{name:40} {value:>12,}" for name, value in result.items()))
    return 0 if ratio >= 5 else 1


if __name__ == "__main__":
    raise SystemExit(main())
