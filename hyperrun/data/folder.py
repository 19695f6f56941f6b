"""A folder of your own pictures: ROOT/train/CLASS/*, ROOT/test/CLASS/* and, where you have one, ROOT/val/CLASS/*.

A class is a folder in train/ that holds pictures, at any depth. What is hidden (its name begins with a dot) is not
looked at, a link that leads back to a folder above it is not followed, and files of other kinds are counted.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hyperrun.data.images import SPLITS, STATISTICS_FROM, FolderSplit, ImageSet, Split, drawn, free_memory, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.data.learned import LearnedImages
from hyperrun.errors import UserError
from hyperrun.paths import expanded
from hyperrun.registry import register

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = "train/CLASS/*.png, test/CLASS/*.png and optionally val/CLASS/*.png"


@register("data", "image_folder", ImageData)
def load(cfg: ImageData, learned: LearnedImages | None = None) -> ImageSet:
    """Return the pictures under cfg.root as uint8 [N, 3, image_size, image_size]; classes are train's subfolders.

    They are decoded at once if they take under a quarter of the free memory, and batch by batch otherwise;
    data.loader=device and data.loader=dataloader force one or the other. learned: what a run keeps of the pictures that
    it learned from; then size, classes, their numbers, mean and deviation are its own, and the same files validate.

    Raises:
        UserError: no root or size; no such folders or no pictures in them; classes in test or val that are not those
            of train, or of the run; none of the run's validation files is left.
    """
    if cfg.root is None:
        raise UserError(f"data=image_folder needs data.root=DIR, a folder with {LAYOUT}")
    size = learned.size if learned is not None else cfg.image_size
    if size is None or size < 1:
        raise UserError(f"data.image_size must be a positive number of pixels, not {size}")
    root = expanded(cfg.root)
    classes = class_names(root) if learned is None else learned.classes
    drawn_before = learned.val_files if learned is not None else None
    names = ["train", "test", *(["val"] if drawn_before is None and (root / "val").is_dir() else [])]
    parts = {part: scan(root / part, classes, size, by_run=learned is not None) for part in names}
    notes = left_out(root, names, classes)
    val_files = None
    if "val" not in parts:
        train = parts["train"]
        if drawn_before is None:
            for_training, for_val = drawn("image_folder", cfg, len(train))
        else:
            for_training, for_val, gone = drawn_as_before(root, train, drawn_before)
            notes += gone
        parts |= {"train": train.select(for_training), "val": train.select(for_val)}
        val_files = below(root, parts["val"])
    prints = {part: print_of(root, files) for part, files in parts.items()}
    splits: dict[str, Split] = dict(parts)
    if cfg.loader != "dataloader" and (cfg.loader == "device" or _fits(list(parts.values()))):
        splits = {part: files.read() for part, files in parts.items()}
    measured = learned.normalization if learned is not None and len(learned.mean) == 3 else None
    cfg = replace(cfg, image_size=size)
    train, val, test = (splits[part] for part in SPLITS)
    data = make_set("image_folder", cfg, train=train, val=val, test=test, classes=classes, measured=measured)
    return replace(data, val_files=val_files, file_prints=prints, notes=notes)


def _fits(splits: list[FolderSplit]) -> bool:
    free = free_memory(torch.device("cpu"))
    return free is not None and 4 * sum(len(files) * 3 * files.size**2 for files in splits) < free


def below(root: Path, files: FolderSplit) -> list[str]:
    """Return the names of files below the root, with / between folders."""
    return [path.relative_to(root).as_posix() for path in files.paths]


def drawn_as_before(root: Path, train: FolderSplit, val_files: list[str]) -> tuple[Tensor, Tensor, list[str]]:
    """Return which files train and which validate, as a run drew them, and a note where some of the latter are gone.

    Raises:
        UserError: all are gone.
    """
    wanted = set(val_files)
    chosen = torch.tensor([name in wanted for name in below(root, train)])
    found = int(chosen.sum())
    if not found:
        raise UserError(f"none of the {len(wanted):,} pictures that this run validated on is in {root} (--root DIR)")
    for_training = (~chosen).nonzero().squeeze(1)
    gone = [f"{len(wanted) - found:,} of the {len(wanted):,} pictures that this run validated on are gone"]
    return for_training, chosen.nonzero().squeeze(1), gone if found < len(wanted) else []


def print_of(root: Path, files: FolderSplit) -> str:
    """Return eight hexadecimal digits that differ where names, sizes or contents of files do (contents of
    STATISTICS_FROM files, evenly spaced, where there are more). They do not depend on where the folder is.

    Raises:
        UserError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    count = len(files.paths)
    most = min(count, STATISTICS_FROM)
    read = {i * count // most for i in range(most)}
    for i, (path, name) in enumerate(zip(files.paths, below(root, files), strict=True)):
        try:
            digest.update(f"{name}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            if i in read:
                digest.update(path.read_bytes())
        except OSError as error:
            raise UserError(f"cannot read the picture {path}: {error.strerror}") from None
    return digest.hexdigest()[:8]


# ---------------------------------------------------------------- what is there


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those in it, at any depth, each with the names of its files: not hidden ones, sorted.

    Links are followed, but not back to a folder on the way to them: that would go in a circle.
    """
    above = [identity(path) for path in (folder, *folder.absolute().parents, *folder.resolve().parents)]
    yield from _walk(folder, frozenset(above))


def _walk(folder: Path, way: frozenset[tuple[int, int]]) -> Iterator[tuple[Path, list[str]]]:
    try:
        entries = sorted((entry for entry in os.scandir(folder) if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from None
    yield folder, [entry.name for entry in entries if not is_folder(entry)]
    for entry in entries:
        if is_folder(entry) and (own := identity(entry)) not in way:
            yield from _walk(folder / entry.name, way | {own})


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def state_of(root: Path) -> int:
    """Return a number that changes when a file comes, goes or is written anew; within one process."""
    state = 0
    for at, files in walk(root):
        for name in files:
            with suppress(OSError):  # a link to nowhere
                found = os.stat(at / name)
                state = hash((state, str(at), name, found.st_ino, found.st_size, found.st_mtime_ns))
    return state


def identity(path: Path | os.DirEntry[str]) -> tuple[int, int]:
    """Return what is the same for a folder and a link to it."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def is_picture(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders right in a folder that are not hidden, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def has_pictures(folder: Path) -> bool:
    return any(is_picture(name) for _, files in walk(folder) for name in files)


def class_names(root: Path) -> list[str]:
    """Return the names of the folders in ROOT/train that hold pictures, sorted.

    Raises:
        UserError: there is no such folder, or none in it.
    """
    train = root / "train"
    if not train.is_dir():
        raise UserError(f"{train} is not a folder: data=image_folder needs data.root=DIR with {LAYOUT}")
    folders = folders_in(train)
    if not folders:
        raise UserError(f"{train} holds no folders: it needs one per class, with {LAYOUT}")
    names = [name for name in folders if has_pictures(train / name)]
    if not names:
        raise no_pictures(train)
    return names


def no_pictures(folder: Path) -> UserError:
    return UserError(f"{folder} holds no pictures (looked for {', '.join(EXTENSIONS)} in a folder per class)")


def scan(folder: Path, classes: list[str], size: int, by_run: bool = False) -> FolderSplit:
    """List the pictures in FOLDER/CLASS, with the folders inside it, in an order that is the same everywhere.

    by_run: the classes are those of a run; of train, which it does not learn from any more, others are left out.

    Raises:
        UserError: the folder is missing, has pictures of a class that train lacks, or none at all.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: data=image_folder needs {LAYOUT}")
    unknown = [name for name in folders_in(folder) if name not in classes and has_pictures(folder / name)]
    if unknown and not by_run:
        raise UserError(f"{folder} has classes that train lacks: {', '.join(unknown)}")
    if unknown and folder.name != "train":
        raise UserError(
            f"{folder} has classes that the run has not learned: {', '.join(unknown)} (it learned {', '.join(classes)})"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            found = sorted(base / file for base, files in walk(folder / name) for file in files if is_picture(file))
            paths += found
            labels += [label] * len(found)
    if not paths:
        raise no_pictures(folder)
    return FolderSplit(paths, torch.tensor(labels, dtype=torch.int64), size)


def left_out(root: Path, parts: list[str], classes: list[str]) -> list[str]:
    """Return what of the folder is not read and who might not know it: files that are no pictures, empty classes."""
    notes: list[str] = []
    for part in parts:
        folder = root / part
        others = [name for base, files in walk(folder) for name in files if base == folder or not is_picture(name)]
        if others:
            kinds = Counter(Path(name).suffix.lower() or "no ending" for name in others)
            most = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))[:4]
            said = ", ".join(f"{kind}: {count:,}" for kind, count in most)
            notes.append(f"{folder}: skipped what is no picture in a class: {len(others):,} ({said})")
        for name in sorted({*folders_in(folder), *classes}):
            if not (folder / name).is_dir() or not has_pictures(folder / name):
                is_class = "no pictures of this class" if name in classes else "no pictures, so it is no class"
                notes.append(f"{folder / name}: {is_class}")
    return notes
