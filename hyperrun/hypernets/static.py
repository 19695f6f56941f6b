"""The static hypernet of Ha et al. section 3.1: kernels from one learned embedding per tile.

A tile is the basic kernel of Nin x Nout channels (16 x 16) and f x f pixels. With the embedding z of a tile (eq. 2):

    a_i = W_i z + B_i                    i = 1..Nin      W_i [d, Nz], B_i [d]
    K_i = <W_out, a_i> + B_out                           W_out [f * Nout * f, d], B_out [f * Nout * f]

and a kernel of more channels is put together from tiles, each with its own z (eq. 3). W and B are shared by all tiles.

Both layers are linear, so they fold into one: K = z @ basis + offset with basis[n, i] = sum_d W_i[d, n] W_out[:, d].
All tiles of all layers are then one matrix product over the table of embeddings, whatever the depth of the target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperrun.config import check_positive
from hyperrun.errors import UserError, choose
from hyperrun.hypernets.scale import INITS, centres_and_stds, rms
from hyperrun.hypernets.select import SelectingConfig
from hyperrun.registry import register


@dataclass
class StaticConfig(SelectingConfig):
    """The two-layer linear generator of Ha et al. section 3.1, eqs. 2 and 3."""

    z_dim: int
    """Nz: numbers in the embedding of each tile."""
    hidden_dim: int | None
    """d: width of the layer between W_i and W_out; null means z_dim, as in the paper."""
    tile: list[int]
    """[input channels, output channels] of the basic kernel; larger kernels are put together from tiles."""
    init: str
    """variance_matched: each kernel starts with the variance the target's own initialization gave it; hyperfan and
    hyperfan_out: as Chang et al. (2020), for ReLU: 2 / fan_in (1 / fan_in
    where the bias is generated too) and 2 / fan_out; ha2016: the author's notebook's constants."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        if self.hidden_dim is not None:
            check_positive("hidden_dim", self.hidden_dim)
        if len(self.tile) != 2 or min(self.tile) < 1:
            raise ValueError("tile must be two positive numbers, [input channels, output channels]")
        choose("hypernet.init", self.init, [*INITS, "ha2016"])


class TileGenerator(nn.Module):
    """Generates all kernels of one spatial size.

    shapes: name -> shape of the kernel, [out, in, *spatial], the same `spatial` for all (none for linear layers).
    tile: (Nin, Nout). Channels that are no multiple of it are cut from the last tile.

    Parameters, with T tiles, f*f pixels: z [T, Nz], w_in [Nin, d, Nz], b_in [Nin, d], w_out [d, Nout*f*f],
    b_out [Nout*f*f]; all float32. Together Nz*T + d*(Nz+1)*Nin + f*Nout*f*(d+1) numbers, as in the paper.
    """

    def __init__(self, shapes: Mapping[str, torch.Size], z_dim: int, hidden_dim: int, tile: tuple[int, int]) -> None:
        super().__init__()
        self.tile_in, self.tile_out = tile
        self.spatial = tuple(next(iter(shapes.values()))[2:])
        # kernels of one shape stand together, so that each shape needs one permutation, however many layers have it
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, shape in shapes.items():
            by_shape.setdefault((shape[0], shape[1]), []).append(name)
        self.by_shape = by_shape
        self.tiles_per_shape = [
            math.ceil(out / self.tile_out) * math.ceil(in_ / self.tile_in) * len(names)
            for (out, in_), names in by_shape.items()
        ]
        pixels = math.prod(self.spatial)
        self.z = nn.Parameter(torch.empty(sum(self.tiles_per_shape), z_dim))
        self.w_in = nn.Parameter(torch.empty(self.tile_in, hidden_dim, z_dim))
        self.b_in = nn.Parameter(torch.empty(self.tile_in, hidden_dim))
        self.w_out = nn.Parameter(torch.empty(hidden_dim, self.tile_out * pixels))
        self.b_out = nn.Parameter(torch.empty(self.tile_out * pixels))

    def tiles(self) -> Tensor:
        """Return every tile, float32 [T, Nout, Nin, f*f]: one product for the basis, one for the tiles."""
        z_dim = self.z.shape[1]
        pixels = math.prod(self.spatial)
        split = (self.tile_in, self.tile_out, pixels)
        basis = (self.w_in.permute(2, 0, 1).flatten(0, 1) @ self.w_out).view(z_dim, *split)
        offset = torch.addmm(self.b_out, self.b_in, self.w_out).view(split)
        # out-channel first, here where it is small: then a tile needs no permutation of its own
        basis, offset = basis.transpose(1, 2).flatten(1), offset.transpose(0, 1).flatten()
        return torch.addmm(offset, self.z, basis).view(-1, self.tile_out, self.tile_in, pixels)

    def forward(self) -> dict[str, Tensor]:
        """Return name -> kernel, float32 [out, in, *spatial]."""
        kernels = {}
        groups = self.tiles().split(self.tiles_per_shape)
        for ((out, in_), names), group in zip(self.by_shape.items(), groups, strict=True):
            rows, columns = math.ceil(in_ / self.tile_in), math.ceil(out / self.tile_out)
            group = group.view(len(names), columns, rows, self.tile_out, self.tile_in, -1)
            group = group.transpose(2, 3).reshape(
                len(names), columns * self.tile_out, rows * self.tile_in, *self.spatial
            )
            kernels.update(zip(names, group[:, :out, :in_].unbind(), strict=True))
        return kernels

    @torch.no_grad()
    def initialize(self, std: Mapping[str, float]) -> None:
        """Draw all parameters so that each kernel has the given standard deviation; biases are zero.

        z, w_in and w_out get one common scale s, with Nz * d * s^6 equal to the mean variance of the kernels, because
        an optimizer like Adam moves every number by the same amount: a factor much smaller than the others would change
        by a large part of itself at every step. Then each kernel's embeddings are scaled, which is exact, since kernels
        are linear in z.
        """
        hidden, z_dim = self.w_in.shape[1:]
        logs = [math.log(s) for s in std.values() if s > 0]  # a kernel that is to start at zero gets z = 0
        typical = math.exp(sum(logs) / len(logs)) if logs else 1.0
        scale = (typical**2 / (hidden * z_dim)) ** (1 / 6)
        for parameter in (self.z, self.w_in, self.w_out):
            nn.init.normal_(parameter, std=scale)
        nn.init.zeros_(self.b_in)
        nn.init.zeros_(self.b_out)
        kernels = self.forward()
        for name, rows in self.rows().items():
            self.z[rows] *= std[name] / rms(kernels[name])

    @torch.no_grad()
    def initialize_ha2016(self) -> None:
        """Draw the values of the author's MNIST notebook; the paper itself states none.

        w_in, w_out truncated normal of std 0.01, biases zero, z truncated normal of mean 0.01 and std 1 (the notebook's
        positional argument is the mean). Kernels start about 30 times smaller than learned ones would.
        """
        for weight in (self.w_in, self.w_out):
            nn.init.trunc_normal_(weight, std=0.01, a=-0.02, b=0.02)
        nn.init.trunc_normal_(self.z, mean=0.01, std=1.0, a=-1.99, b=2.01)
        nn.init.zeros_(self.b_in)
        nn.init.zeros_(self.b_out)

    def rows(self) -> dict[str, slice]:
        """Return name -> the rows of z that belong to that kernel."""
        rows, start = {}, 0
        for names, tiles in zip(self.by_shape.values(), self.tiles_per_shape, strict=True):
            each = tiles // len(names)
            for name in names:
                rows[name] = slice(start, start + each)
                start += each
        return rows


class StaticHypernet(nn.Module):
    """One TileGenerator for each spatial size of kernel, under its name ("3x3", "1x1", ...).

    reference: name -> the target's own initial value of each parameter to generate, [out, in, *spatial]. Its shape says
        what is made; its standard deviation is what init="variance_matched" starts with.
    init: see scale.py, set through the embeddings, since the output layer is shared; or "ha2016", the
        constants of the author's notebook.

    Generation runs in float32 also under autocast; the operators that use the kernels cast them.
    """

    def __init__(
        self,
        reference: Mapping[str, Tensor],
        z_dim: int,
        hidden_dim: int | None,
        tile: tuple[int, int],
        init: str,
    ) -> None:
        super().__init__()
        by_spatial: dict[str, dict[str, Tensor]] = {}
        for name, value in reference.items():
            size = "x".join(str(n) for n in value.shape[2:]) or "linear"
            by_spatial.setdefault(size, {})[name] = value
        self.generators = nn.ModuleDict()
        for size, values in by_spatial.items():
            shapes = {name: value.shape for name, value in values.items()}
            generator = TileGenerator(shapes, z_dim, hidden_dim or z_dim, tile)
            self.generators[size] = generator
            if next(iter(values.values())).is_meta:
                continue  # only shapes are wanted, as for counting
            if init == "ha2016":
                generator.initialize_ha2016()
            else:
                generator.initialize({name: std for name, (_, std) in centres_and_stds(values, init).items()})

    def forward(self) -> dict[str, Tensor]:
        """Return name -> generated parameter, float32."""
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            kernels: dict[str, Tensor] = {}
            for generator in self.generators.values():
                kernels.update(generator())
        return kernels

    def layer_embeddings(self) -> dict[str, dict[str, Tensor]]:
        """Return spatial size -> name of a kernel -> embeddings of its tiles, [tiles, Nz].

        Embeddings of two generators (3x3 and 1x1 kernels) mean different things and are never compared.
        """
        found = {}
        for size, generator in self.generators.items():
            assert isinstance(generator, TileGenerator)
            found[size] = {name: generator.z[place] for name, place in generator.rows().items()}
        return found


@register("hypernet", "static", StaticConfig)
def build_static(cfg: StaticConfig, reference: Mapping[str, Tensor]) -> StaticHypernet:
    for name, value in reference.items():
        if value.ndim < 2:
            raise UserError(f"the static hypernet makes matrices and kernels, not {name} of shape {list(value.shape)}")
    return StaticHypernet(reference, cfg.z_dim, cfg.hidden_dim, (cfg.tile[0], cfg.tile[1]), cfg.init)
