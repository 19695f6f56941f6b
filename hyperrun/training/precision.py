"""Which number format the forward pass runs in, chosen from the hardware, with the reason."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from hyperrun.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Precision:
    name: str
    """bf16, fp16 or float32."""
    reason: str
    """Why, in words, for the console and `hyperrun env`."""
    device_type: str
    """cpu or cuda."""

    def autocast(self) -> AbstractContextManager:
        """Context of a forward pass. Parameters and optimizer state stay float32 in every case."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device_type, DTYPES[self.name])

    @property
    def needs_scaler(self) -> bool:
        """fp16 gradients underflow without loss scaling; bf16 has float32's range."""
        return self.name == "fp16"


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return the format for `wanted` (auto, bf16, fp16, float32) on this device.

    Raises:
        UserError: fp16 on a CPU, where it is slower than float32 and has no loss scaling worth the name.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UserError("precision=fp16 needs a GPU (on this CPU: precision=bf16 or float32)")
    if wanted != "auto":
        return Precision(wanted, f"precision={wanted} was asked for", device.type)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision("bf16", f"{name} multiplies bf16 fast", device.type)
        return Precision("fp16", f"{name} has fast fp16 and no fast bf16", device.type)
    feature = fast_bf16_feature()
    if feature:
        return Precision("bf16", f"this CPU has {feature}", device.type)
    return Precision("float32", "this CPU has neither AVX512-BF16 nor AMX", device.type)


def fast_bf16_feature() -> str | None:
    """Return the name of the CPU's bf16 instructions, or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "AVX512-BF16"
    return None


def choose_matmul_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """Return what torch.set_float32_matmul_precision should get for `wanted` (auto, highest, high, medium), and why.

    On a CPU the setting decides which library multiplies float32 matrices: MKL at "highest", oneDNN below it. MKL is
    slow on AMD. oneDNN then may, but on CPUs without AMX does not, round the factors to bf16 (measured on an AMD Zen 5
    with AVX512-BF16: results as exact as at "highest").
    """
    if wanted != "auto":
        return wanted, f"trainer.matmul_precision={wanted} was asked for"
    if device.type != "cpu":
        return "highest", "float32 stays float32 on a GPU unless asked otherwise"
    if torch.cpu._is_amx_tile_supported():
        return "highest", "a lower setting would round to bf16 on this CPU's AMX"
    return "medium", "float32 products go to oneDNN, and stay float32 on this CPU"
