"""The number format chosen for a device, and its reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hyperrun.errors import UserError
from hyperrun.training.precision import Precision, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def cpu(monkeypatch):
    """Return a function that gives the machine's CPU some instructions."""

    def have(amx: bool, bf16: bool) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)

    return have


@pytest.mark.parametrize(
    ("amx", "bf16", "name", "reason"),
    [
        (False, False, "float32", "neither AVX512-BF16 nor AMX"),
        (False, True, "bf16", "AVX512-BF16"),
        (True, False, "bf16", "AMX"),
        (True, True, "bf16", "AMX"),
    ],
)
def test_on_a_cpu_bf16_is_taken_where_it_is_fast(cpu, amx, bf16, name, reason):
    cpu(amx, bf16)
    chosen = choose_precision("auto", CPU)
    assert (chosen.name, chosen.device_type) == (name, "cpu")
    assert reason in chosen.reason


@pytest.mark.parametrize(
    ("capability", "name"),
    [((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")],
)
def test_on_a_gpu_it_follows_the_generation(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    chosen = choose_precision("auto", CUDA)
    assert (chosen.name, chosen.device_type) == (name, "cuda")
    assert "Some GPU" in chosen.reason


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize("wanted", ["bf16", "float32"])
def test_what_is_asked_for_is_taken(cpu, wanted, device):
    cpu(amx=wanted == "float32", bf16=wanted == "float32")
    chosen = choose_precision(wanted, device)
    assert chosen.name == wanted
    assert chosen.reason == f"precision={wanted} was asked for"


def test_fp16_is_refused_on_a_cpu():
    with pytest.raises(UserError, match="needs a GPU.*bf16 or float32"):
        choose_precision("fp16", CPU)
    assert choose_precision("fp16", CUDA).name == "fp16"


def test_only_fp16_needs_a_loss_scaler():
    assert [name for name in ("float32", "bf16", "fp16") if Precision(name, "", "cuda").needs_scaler] == ["fp16"]


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_changes_the_products_and_not_the_parameters(name, dtype):
    model = nn.Linear(3, 2)
    with Precision(name, "", "cpu").autocast():
        out = model(torch.randn(4, 3))
    assert out.dtype == dtype
    out.float().sum().backward()
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32
