"""A latent for each training image, learned with the generator that makes weights of it (Park et al. 2019, DeepSDF)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from hyperrun.config import check_positive
from hyperrun.errors import choose
from hyperrun.hypernets.scale import EmbeddedMLPConfig
from hyperrun.registry import chosen, register


@dataclass
class AutoDecoderConfig(EmbeddedMLPConfig):
    """A latent for each training image, learned together with the MLP that makes weights of it (Park et al. 2019).

    What becomes of images that have no latent yet stands here too: theirs is fitted, with the hypernet as it is.
    """

    generator: str
    """mlp (all weights at once) or chunked (a chunk at a time), as in the hypernets of these names."""
    chunk_size: int
    """Numbers made at a time by generator=chunked."""
    latent_std: float
    """Standard deviation of the latents' numbers at the start."""
    latent_l2: float
    """Coefficient of a latent's squared norm, which is added to its image's mean squared error: the Gaussian prior."""
    points: int | None
    """Most pixels of each image that a training step looks at, drawn anew for each batch; null means all."""
    fit_steps: int
    """Steps of Adam that fit the latent of a held-out image, from the mean of the training images' latents."""
    fit_lr: float
    """Learning rate of the first of them, in units of the training latents' standard deviation; it falls to zero along
    half a cosine."""
    test_images: int | None
    """Test images that are fitted, evenly spaced in the split; null means all. summary.json says how many they were."""
    val_images: int | None
    """The same of the validation split, so that validations during training stay cheap."""
    val_fit_steps: int
    """Steps that fit a latent in a validation; fewer than fit_steps: they only have to rank checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("hypernet.generator", self.generator, ["mlp", "chunked"])
        for name in ("chunk_size", "points", "fit_steps", "test_images", "val_images", "val_fit_steps"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("latent_std", "fit_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.latent_l2 < 0:
            raise ValueError(f"latent_l2 must not be negative, not {self.latent_l2}")


@register("hypernet", "auto_decoder", AutoDecoderConfig, latents=True)
def build_auto_decoder(cfg: AutoDecoderConfig, reference: Mapping[str, Tensor], size: int) -> nn.Module:
    """Return what makes {name: [..., *shape]} of latents [..., size]: the generator that the config names."""
    return chosen("hypernet", cfg.generator).build(cfg, reference, size)
