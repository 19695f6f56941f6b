"""What reading and feeding two million pairs takes in memory: 36 million must do with 4 GB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.pairs.conftest import PAIR_DEFAULTS, mirrored, sentences
from tests.running import REPO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, which has a process's memory"),
]

FEED = """
import json, resource, sys, threading, time
import torch
from hyperrun.data import PairData, load_pairs
from hyperrun.data.pairs.loader import PairLoader

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

cfg = PairData(**json.loads(sys.argv[1]))
before, peak, done = anonymous(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.01)

watcher = threading.Thread(target=watch)
watcher.start()
data = load_pairs(cfg)
loader = PairLoader(data, cfg, device=torch.device("cpu"), seed=0)
for epoch in (0, 1):
    for number, batch in zip(range(5), loader.train_batches(epoch, 7)):
        pass
done = True
watcher.join()
learner = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"grown": peak - before, "learner": learner, "pairs": len(data.train)}))
"""


def fed(folder: Path, count: int) -> dict[str, int]:
    """Return what reading and feeding so many pairs takes: bytes by which the process grows (but for files that are
    mapped into it), bytes of the process that learns the pieces, pairs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    some = sentences(10_000, 0)
    for name, texts in (("source", some), ("target", mirrored(some))):
        with (folder / name).open("w") as stream:
            for _ in range(count // 100_000):
                stream.writelines(f"{texts[i]} {texts[-i]}\n" for i in rng.integers(0, len(some), 100_000).tolist())
        rng = np.random.default_rng(0)
    keys = {
        **PAIR_DEFAULTS,
        **{name: str(folder / name) for name in ("source", "target")},
        "root": str(folder),
        "pieces": 60,
        "max_length": 200,
        "tokens_per_batch": 4096,
        "buckets": 8,
        "val_fraction": 0.001,
        "test_fraction": 0.001,
    }
    done = subprocess.run(
        [sys.executable, "-c", FEED, json.dumps(keys)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_hardly_grows_with_the_pairs(tmp_path: Path) -> None:
    few, many = (fed(tmp_path / str(count), count) for count in (200_000, 2_000_000))
    print(few, many)
    per_pair = (many["grown"] - few["grown"]) / (many["pairs"] - few["pairs"])
    assert few["grown"] + per_pair * 36e6 < 4e9, f"{per_pair:.0f} bytes a pair"
    assert many["learner"] < 4e9
