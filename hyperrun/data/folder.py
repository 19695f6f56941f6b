"""A folder of your own pictures: ROOT/train/CLASS/*, ROOT/test/CLASS/* and, where you have one, ROOT/val/CLASS/*."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from hyperrun.data.images import FolderSplit, ImageSet, Split, free_memory, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.errors import UserError
from hyperrun.registry import register

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = "train/CLASS/*.png, test/CLASS/*.png and optionally val/CLASS/*.png"


@register("data", "image_folder", ImageData)
def load(cfg: ImageData) -> ImageSet:
    """Return the pictures under cfg.root as uint8 [N, 3, image_size, image_size]; classes are train's subfolders.

    They are decoded at once if they take under a quarter of the free memory, and batch by batch otherwise;
    data.loader=device and data.loader=dataloader force one or the other.
    """
    if cfg.root is None:
        raise UserError(f"data=image_folder needs data.root=DIR, a folder with {LAYOUT}")
    if cfg.image_size is None or cfg.image_size < 1:
        raise UserError(f"data.image_size must be a positive number of pixels, not {cfg.image_size}")
    root = Path(cfg.root).expanduser()
    classes = class_names(root)
    parts = {part: scan(root / part, classes, cfg.image_size) for part in ("train", "test")}
    if (root / "val").is_dir():
        parts["val"] = scan(root / "val", classes, cfg.image_size)
    splits: dict[str, Split] = dict(parts)
    if cfg.loader != "dataloader" and (cfg.loader == "device" or _fits(list(parts.values()))):
        splits = {part: files.read() for part, files in parts.items()}
    return make_set(
        "image_folder", cfg, train=splits["train"], val=splits.get("val"), test=splits["test"], classes=classes
    )


def _fits(splits: list[FolderSplit]) -> bool:
    free = free_memory(torch.device("cpu"))
    return free is not None and 4 * sum(len(files) * 3 * files.size**2 for files in splits) < free


def class_names(root: Path) -> list[str]:
    """Return the names of the folders in ROOT/train, sorted.

    Raises:
        UserError: there is no such folder, or none in it.
    """
    if not (root / "train").is_dir():
        raise UserError(f"{root / 'train'} is not a folder: data=image_folder needs data.root=DIR with {LAYOUT}")
    names = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not names:
        raise UserError(f"{root / 'train'} holds no folders: it needs one per class, with {LAYOUT}")
    return names


def scan(folder: Path, classes: list[str], size: int) -> FolderSplit:
    """List the pictures in FOLDER/CLASS, with the folders inside it, in an order that is the same everywhere.

    Raises:
        UserError: the folder is missing, has a class that train lacks, or no pictures.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: data=image_folder needs {LAYOUT}")
    unknown = {entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."} - set(classes)
    if unknown:
        raise UserError(f"{folder} has classes that train lacks: {', '.join(sorted(unknown))}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            Path(base) / file
            for base, _, files in os.walk(folder / name, followlinks=True)
            for file in files
            if file.lower().endswith(EXTENSIONS) and file[0] != "."
        )
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise UserError(f"{folder} holds no pictures (looked for {', '.join(EXTENSIONS)} in a folder per class)")
    return FolderSplit(paths, torch.tensor(labels, dtype=torch.int64), size)
