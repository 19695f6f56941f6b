"""What a figure was measured on, also where a run went on elsewhere."""

from __future__ import annotations

import torch

from hyperrun.tracking.environment import and_now, made_with

A = {"device": "A", "torch": "2.15", "git": None}


def test_a_run_is_made_with_what_all_its_processes_had() -> None:
    assert and_now({}, A) == A, "a new one, or a checkpoint older than this"
    assert and_now(A, A) == A
    moved = and_now(A, {**A, "device": "B"})
    assert moved == {"device": "A, then B", "torch": "2.15", "git": None}
    assert and_now(moved, {**A, "device": "B"}) == moved, "again where it was last"
    assert and_now(moved, A)["device"] == "A, then B, then A"
    assert and_now(A, {**A, "git": "0123"})["git"] == "unknown, then 0123", "begun with an installed hyperrun"
    assert and_now({**A, "git": "unknown, then 0123"}, A)["git"] == "unknown, then 0123, then unknown"


def test_this_process_has_a_device_and_versions() -> None:
    found = made_with(torch.device("cpu"))
    assert f"({torch.get_num_threads()} thread" in str(found["device"]) and found["torch"] == torch.__version__
