"""What a run keeps of the images that it learned from: its figures stay what they are when the images change."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hyperrun.data.images import SPLITS, ImageSet, Split
from hyperrun.errors import UserError
from hyperrun.inputs import Images


@dataclass(frozen=True)
class LearnedImages:
    """What a checkpoint says of the images."""

    classes: list[str]
    """Their names; the number of a class is its place."""
    mean: list[float]
    """Of each channel's training pixels, in [0, 1]: what images are normalized by."""
    std: list[float]
    size: int
    """Side in pixels."""
    counts: dict[str, int]
    """Split -> how many examples it had."""
    fingerprints: dict[str, str]
    """Split -> what differs where its examples do; empty for published files, whose checksums are known."""
    val_files: list[str] | None
    """Of an image folder: which files of train/ validated, where they were drawn."""

    @staticmethod
    def of(data: ImageSet) -> LearnedImages:
        return LearnedImages(
            data.classes,
            data.mean.tolist(),
            data.std.tolist(),
            data.image_size,
            data.counts,
            {} if data.published else data.fingerprints,
            data.val_files,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain lists and numbers, for a checkpoint."""
        return asdict(self)

    @staticmethod
    def from_state_dict(state: dict[str, Any] | None) -> LearnedImages | None:
        """Return what `state_dict` described; None for None, of a checkpoint from before they were kept."""
        return None if state is None else LearnedImages(**state)

    @property
    def inputs(self) -> Images:
        """What the images look like to a model."""
        return Images(len(self.mean), self.size, len(self.classes), self.counts["train"])

    @property
    def normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, two float32 [C]."""
        return torch.tensor(self.mean), torch.tensor(self.std)

    def changes(self, data: ImageSet) -> list[str]:
        """Return what is no longer as it was: the classes, and splits with how many examples they had and have."""
        changed = [] if self.classes == data.classes else ["the classes' names"]
        for part in SPLITS:
            if not self.same(data, part):
                then, now = self.counts[part], data.counts[part]
                changed.append(f"{part} ({then:,}, now {now:,})" if then != now else part)
        return changed

    def same(self, data: ImageSet, part: str) -> bool:
        """Return whether a split has the examples that it had. Those of published sets do, if they are as many."""
        if self.counts[part] != data.counts[part]:
            return False
        return not self.fingerprints or data.published or self.fingerprints[part] == data.fingerprints[part]

    def check_same(self, data: ImageSet) -> None:
        """Refuse to go on training on other images.

        Raises:
            UserError: they are others; says which splits.
        """
        changed = self.changes(data)
        if changed:
            raise UserError(
                f"the images of data={data.name} have changed since this run began: {', '.join(changed)}; "
                "resume=never starts afresh"
            )

    def applied(self, data: ImageSet) -> ImageSet:
        """Return other images, or the same from elsewhere, as the run would read them: normalized by its own mean and
        deviation; where the classes have its own names in another order, with its numbers."""
        if len(self.mean) == data.channels:
            mean, std = self.normalization
            data = replace(data, mean=mean, std=std)
        if sorted(self.classes) == sorted(data.classes) and self.classes != data.classes:
            numbers = torch.tensor([self.classes.index(name) for name in data.classes])
            parts = {part: _numbered(getattr(data, part), numbers) for part in SPLITS}
            data = replace(data, classes=self.classes, **parts)
        elif len(self.classes) == len(data.classes) and self.classes != data.classes:
            said = f"the classes of data={data.name} have other names than those of the run: compared by their numbers"
            data = replace(data, notes=[*data.notes, said])
        return data


def _numbered(split: Split, numbers: Tensor) -> Split:
    """Return a split whose class i is class numbers[i]."""
    return replace(split, labels=numbers[split.labels])
