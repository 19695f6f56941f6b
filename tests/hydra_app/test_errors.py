"""Whatever a user can get wrong: status 2, one line that says what is allowed, no traceback, nothing half-made."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.running import FAST, Running, leftovers, only_run, summary

Here = Callable[..., Any]
Start = Callable[..., Running]

PREFIX = "hyperrun: error: "


def assert_one_line(err: str, *parts: str) -> None:
    assert err.startswith(PREFIX) and err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    for part in parts:
        assert part in err, f"{part!r} is missing in: {err}"


def assert_nothing_made(cwd: Path) -> None:
    """No run folder and nothing half-written; Hydra's own folder may be there."""
    made = [path for path in cwd.glob("outputs/**/*") if ".hydra" not in path.parts]
    assert made == [] and leftovers(cwd) == []


# ---------------------------------------------------------------- the table

VERBS = [
    (
        "trian",
        "unknown verb 'trian'",
        "did you mean 'train'?",
        "allowed: train, eval, predict, compare, export, adapt, sample, translate, analyze, bench, ls",
    ),
    ("evaluate", "unknown verb 'evaluate'", "allowed: "),
    ("model=cnn", "unknown verb 'model=cnn'", "allowed: "),
]
GROUPS = [
    ("train modle=cnn", "unknown key 'modle'", "did you mean 'model'?"),
    ("train model=hyperesnet", "model has no choice 'hyperesnet'", "did you mean 'hyperresnet'?", "cnn, hypercnn, "),
    ("train target=wideresnet", "target has no choice", "did you mean 'wide_resnet'?", "torchvision"),
    (
        "train hypernet=statik",
        "hypernet has no choice",
        "did you mean 'static'?",
        "auto_decoder, chunked, dynamic, mlp, none, static",
    ),
    ("train data=cifr10", "data has no choice 'cifr10'", "did you mean 'cifar10'?", "cifar100"),
    ("train optim=adamm", "did you mean 'adam'?", "allowed: adam, adamw, muon, sgd"),
    ("train schedule=cosin", "did you mean 'cosine'?", "multi_step"),
    ("train trainer=foo", "trainer has no choice 'foo'", "allowed: default"),
    ("train debug=fats", "debug has no choice 'fats'", "did you mean 'fast'?"),
    ("train experiment=mnist_cnn", "did you mean 'ha2016/mnist_cnn'?", "ha2016/mnist_hypercnn"),
    ("train -m model=cnn,foo", "model has no choice 'foo'", "hyperresnet"),
    ("train model=", "model", "allowed: cnn, hypercnn"),
    ("train model=null", "model", "cnn"),
    ("train experiment=3", "experiment has no choice '3'", " more)"),
]
KEYS = [
    ("train lr=0.1", "unknown key 'lr'", "did you mean 'optim.lr'?"),
    ("train max_steps=10", "unknown key 'max_steps'", "did you mean 'trainer.max_steps'?"),
    ("train trainer.max_step=10", "did you mean 'trainer.max_steps'?", "trainer has: epochs, max_steps, "),
    ("train sed=1", "unknown key 'sed'", "did you mean 'seed'?"),
    ("train model=resnet target.depht=10", "did you mean 'target.depth'?", "target has: kind, depth, width"),
    ("train hypernet.z_dims=3", "did you mean 'hypernet.z_dim'?", "hypernet has: "),
    ("train tracking.wandb.mod=offline", "did you mean 'tracking.wandb.mode'?"),
    ("train +foo=1", "unknown key 'foo'", "allowed: model, experiment, target"),
    ("train ++trainer.foo=1", "unknown key 'trainer.foo'", "allowed: epochs"),
    ("train -m seed=0,1 modle=cnn", "did you mean 'model'?"),
    ("train ~optim.lr", "optim.lr needs a value"),
    ("train ~optim", "lacks", "optim"),
]
VALUES = [
    ("train optim.lr=-1", "lr must be positive, not -1.0"),
    ("train optim.lr=nan", "lr must be positive"),
    ("train optim.lr=inf", "lr"),
    ("train optim.weight_decay=nan", "weight_decay"),
    ("train trainer.epochs=0", "epochs must be at least 1"),
    ("train trainer.batch_size=0", "batch_size must be at least 1"),
    ("train trainer.clip_norm=0", "clip_norm must be positive or null"),
    ("train trainer.ema=1", "ema must lie in [0, 1)"),
    ("train trainer.label_smoothing=1.5", "label_smoothing must lie in [0, 1)"),
    ("train seed=-1", "seed must lie between 0 and"),
    ("train precision=fp8", "unknown precision 'fp8'", "auto, bf16, float32, fp16"),
    ("train precision=bf61", "did you mean 'bf16'?"),
    ("train resume=nver", "did you mean 'never'?", "auto, never"),
    ("train tracking.wandb.mode=onlin", "did you mean 'online'?", "disabled"),
    ("train model=resnet target.depth=11", "6n + 4 (10, 16, 22"),
    ("train model=resnet target.width=0", "width must be at least 1"),
    ("train model=resnet target.shortcut=zeropad", "did you mean 'zero_pad'?", "conv1x1"),
    ("train model=resnet target.dropout=2", "dropout must lie in [0, 1)"),
    ("train target.kernel_size=4", "kernel_size must be odd"),
    ("train target.channels=[16]", "channels must be two positive numbers"),
    ("train hypernet.z_dim=0", "z_dim must be at least 1"),
    ("train hypernet.tile=[16]", "tile must be two positive numbers"),
    ("train hypernet.init=hyprfan", "did you mean 'hyperfan'?", "variance_matched"),
    ("train target=siren", "hypernet=static has no latent for each image", "hypernet=auto_decoder"),
    ("train model=hypersiren hypernet=none", "hypernet=none has no latent", "model=hypersiren"),
    ("train hypernet=auto_decoder", "is for images that are networks (model=hypersiren)"),
    ("train model=hypersiren data=pydocs", "target=siren does not take text", "recurrent"),
    ("train model=hypersiren hypernet.fit_steps=0", "fit_steps must be at least 1"),
    ("train hypernet.generate=convs", "did you mean 'conv'?", "all"),
    ("train optim.decay_on=[bias]", "did you mean 'biases'?", "norms"),
    ("train optim=sgd optim.momentum=-1", "momentum"),
    ("train optim.betas=[0.9]", "betas"),
    ("train optim.betas=[0.9,2]", "betas"),
    ("train optim.eps=-1", "eps"),
    ("train schedule=multi_step schedule.milestones=[0.5]", "one entry in factors for each"),
    ("train schedule=one_cycle schedule.peak_at=2", "peak_at must lie between 0 and 1"),
    ("train data.loader=foo", "allowed: auto, dataloader, device"),
    ("train data.val_size=0", "val_size must be at least 1"),
    ("train data.name=foo", "unknown data set 'foo'", "digits"),
    ("train optim.kind=foo", "allowed: adam, adamw, muon, sgd"),
    ("train target=torchvision target.name=resnet19", "did you mean 'resnet18'?", "more)"),
    ("train outputs=null", "outputs"),
]  # fmt: skip
TYPES = [
    ("train optim.lr=abc", "optim.lr", "'abc'", "Float"),
    ("train trainer.epochs=two", "trainer.epochs", "'two'", "Integer"),
    ("train trainer.max_steps=1.5", "trainer.max_steps", "1.5", "Integer"),
    ("train seed=null", "seed"),
    ("train seed=", "seed", "Integer"),
    ("train compile=maybe", "compile", "bool"),
    ("train target.channels=16", "must be a list: target.channels=[...]"),
    ("train plugins=3", "plugins"),
    ("train paper=3", "paper"),
    ("train model=resnet target=3", "target", "wide_resnet"),
    ("train 'optim.lr=${foo}'", "foo"),
]
SYNTAX = [
    ("train model", "model", "="),
    ("train seed=0,1", "seed=0,1", "multirun"),
    ("train 'target.channels=[1'", "target.channels=[1"),
    ("train --config-dir nowhere", "nowhere", "not found"),
    ("train --config-name foo", "'foo'"),
    ("train plugins=[no_such_module]", "cannot import no_such_module"),
]
IMPOSSIBLE = [
    ("train model=seq2seq data=number_words trainer.batch_size=32", "data.tokens_per_batch=N", "data=number_words"),
    ("train model=seq2seq data=number_words ++trainer.eval_batch_size=8", "batches are counted in pieces"),
    ("train precision=fp16", "precision=fp16 needs a GPU", "bf16 or float32"),
    ("train model=cnn hypernet.z_dim=3", "hypernet.z_dim", "hypernet has: kind"),
    ("train target.depth=10", "target.depth", "target has: kind, channels, kernel_size"),
    ("train hypernet.generate=linear", "leaves nothing to generate", "hypernet.include"),
    ("train hypernet.include=[conv9.weight]", "no weight matches 'conv9.weight'", "conv2.weight"),
    ("train data.val_size=1437", "leaves nothing to train on", "1437"),
    ("train data.image_size=16", "8 pixels"),
    ("train data.kind=sound", "unknown data.kind 'sound'", "images"),
    ("train target=torchvision target.name=vit_b_16", "vit_b_16 cannot take images of 8x8"),
    ("train target=torchvision target.name=vgg11", "vgg11 cannot take images of 8x8"),
]
MISSING = [
    ("train data=cifar10 data.root=nowhere", "cifar10 is not in", "nowhere", "data.root=DIR"),
    ("train data=mnist data.root=file", "mnist is not in", "file", "data.root=DIR"),
    ("train data=image_folder", "needs data.root=DIR", "train/CLASS"),
    ("train data=image_folder data.root=nowhere", "nowhere"),
]
ARGUMENTS = [
    ("bench modle=cnn", "unknown key 'modle'", "did you mean 'model'?"),
    ("bench --rounds 0", "--rounds must be at least 1, not 0"),
    ("bench data=cifar10 data.root=nowhere", "cifar10 is not in"),
    ("eval nowhere", "there is no folder nowhere"),
    ("eval .", "is no run folder", "config.yaml"),
    ("analyze nowhere", "there is no folder nowhere"),
    ("ls model", "did you mean 'models'?", "experiments"),
    ("ls models --data foo", "foo", "cifar10"),
    ("data cifr10", "did you mean 'cifar10'?"),
]

KINDS = (VERBS, GROUPS, KEYS, VALUES, TYPES, SYNTAX, IMPOSSIBLE, MISSING, ARGUMENTS)
TABLE = [
    pytest.param(line, parts, id=line, marks=pytest.mark.slow if number >= 4 else [])
    for kind in KINDS
    for number, (line, *parts) in enumerate(kind)
]
"""Of each kind the first four are tried in every test run."""


@pytest.mark.parametrize(("line", "parts"), TABLE)
def test_one_line_and_nothing_made(here: Here, tmp_path: Path, line: str, parts: list[str]) -> None:
    (tmp_path / "file").touch()
    done = here(*shlex.split(line), status=2)
    assert_one_line(done.err, *parts)
    assert done.out == ""
    assert_nothing_made(tmp_path)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("train model=cnn hypernet.z_dim=3", "did you mean 'hypernet.kind'"),
        ("train target.depth=10", "did you mean 'target.kind'"),
        ("train target.name=resnet18", "did you mean 'target.kind'"),
    ],
)
def test_no_misleading_suggestion(here: Here, line: str, part: str) -> None:
    """A key of another choice of the group: naming `kind`, which nobody should set by hand, sends the user astray."""
    assert part not in here(*line.split(), status=2).err


@pytest.mark.parametrize(
    "line", ["eval", "eval file --checkpoint foo", "eval file --nope", "ls --jsn", "env foo", "train --hlep"]
)
def test_usage_errors_of_the_ordinary_flags(here: Here, line: str) -> None:
    done = here(*line.split(), status=2)
    assert_one_line(done.err)
    assert done.out == "" and "Traceback" not in done.err


def test_interpolations_on_the_command_line_are_hydras(here: Here, tmp_path: Path) -> None:
    here("train", *FAST, "trainer.eval_every=${trainer.log_every}")
    assert "eval_every: 2" in (only_run(tmp_path) / "config.yaml").read_text()


# ---------------------------------------------------------------- places that cannot be written to


@pytest.mark.parametrize("outputs", ["file", "file/deeper", "/proc/nowhere", "/dev/null/x"])
def test_outputs_that_cannot_be_made(here: Here, tmp_path: Path, outputs: str) -> None:
    (tmp_path / "file").touch()
    done = here("train", *FAST, f"outputs={outputs}", status=2)
    assert_one_line(done.err, f"cannot write to {outputs}", "outputs=DIR names another place")
    assert (tmp_path / "file").read_bytes() == b""


def test_data_folder_in_the_way_is_a_file(here: Here, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "digits").touch()
    done = here("train", *FAST, status=2)
    assert_one_line(done.err, "cannot write to outputs/digits/hypercnn-s0-", "outputs=DIR names another place")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a small disk in memory with these options; skip where that is not permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk is not permitted here")
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True)


@pytest.mark.slow
def test_read_only_disk(start: Start, mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=10m,ro")
    running = start("train", *FAST, f"outputs={disk}")
    assert running.wait() == 2
    assert_one_line(running.err, f"cannot write to {disk}", "Read-only file system", "outputs=DIR names another place")


SOMEBODY_ELSE = """
import os
from pathlib import Path
real = Path.mkdir
def mkdir(self, *args, **options):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return real(self, *args, **options)
Path.mkdir = mkdir
"""
"""Root may write anywhere, so the process becomes somebody else when it makes its first folder."""


def test_folder_without_write_permission(start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    with tempfile.TemporaryDirectory() as name:
        cwd = Path(name)
        cwd.chmod(0o755)
        if any(not path.stat().st_mode & 0o001 for path in cwd.parents):
            pytest.skip("another user could not enter this folder")
        running = start("train", *FAST, cwd=cwd, before=SOMEBODY_ELSE)
        assert running.wait() == 2
        assert_one_line(running.err, "cannot write to outputs", "Permission denied", "outputs=DIR names another place")


SIZES = (4, 12, 40, 120, 140, 250)
"""last.pt of the default model has 95 kB, best.pt 26 kB."""


@pytest.mark.parametrize(
    "kilobytes", [pytest.param(size, marks=[] if size in (12, 40) else pytest.mark.slow) for size in SIZES]
)
def test_full_disk(start: Start, mounted: Callable[[str], Path], kilobytes: int) -> None:
    """Wherever the space ends: one line, nothing partial; and the same line goes on when there is some."""
    disk = mounted(f"size={kilobytes}k")
    line = ["train", *FAST, "trainer.save_every_s=0", f"outputs={disk}"]
    running = start(*line)
    assert running.wait() == 2, running.err
    assert_one_line(running.err, "No space left on device", str(disk))
    assert leftovers(disk) == []
    for file in disk.rglob("*.pt"):
        assert torch.load(file, weights_only=True)["format"] == 1
    for file in disk.rglob("summary.json"):
        assert summary(file.parent)["status"] == "failed"

    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
    done = start(*line)
    assert done.wait() == 0, done.err


@pytest.mark.parametrize("where", ["os.fsync", "torch.save", "os.replace"])
def test_no_space_is_one_line(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The same without a disk of our own: the error arrives where checkpoints are written."""
    module, name = where.split(".")
    owner = {"os": os, "torch": torch}[module]
    real = getattr(owner, name)

    def full(*args: Any) -> Any:
        if name != "replace" or str(args[1]).endswith(".pt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(args[1])] if name == "replace" else []))
        return real(*args)

    monkeypatch.setattr(owner, name, full)
    done = here("train", *FAST, status=2)
    assert_one_line(done.err, "No space left on device")
    assert leftovers(tmp_path) == [] and not list(tmp_path.rglob("*.pt"))
    assert summary(only_run(tmp_path))["status"] == "failed"
    assert "No space left on device" in (only_run(tmp_path) / "train.log").read_text()


# ---------------------------------------------------------------- checkpoints and run folders


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the default model was trained."""
    running = Running("train", *FAST, cwd=tmp_path_factory.mktemp("trained"))
    assert running.wait() == 0, running.err
    return running.cwd


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of its run folder."""
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    return only_run(tmp_path)


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "no checkpoint": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "its first half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_text("hello"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pickle with code": lambda path: path.write_bytes(b"cos\nsystem\n(S'touch was_run'\ntR."),
    "a list": lambda path: torch.save([1, 2], path),
    "a bare state_dict": lambda path: torch.save({"weight": torch.zeros(2)}, path),
    "no tensors": lambda path: torch.save({"format": 1, "model": 3}, path),
    "another format": lambda path: torch.save({"format": 99, "model": {}}, path),
    "another model": lambda path: torch.save({"format": 1, "model": {"weight": torch.zeros(2)}}, path),
    "other shapes": lambda path: torch.save(
        {"format": 1, "model": {n: torch.zeros(3, 3) for n in torch.load(path)["model"]}}, path
    ),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_eval_of_a_checkpoint_that_is_none(here: Here, run_folder: Path, tmp_path: Path, what: str) -> None:
    CHECKPOINTS[what](run_folder / "checkpoints" / "best.pt")
    done = here("eval", run_folder, status=2)
    assert_one_line(done.err, "best.pt")
    assert done.out == "" and not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    "what",
    [
        "another model",
        *(pytest.param(what, marks=pytest.mark.slow) for what in [*CHECKPOINTS][1:] if what != "another model"),
    ],
)
def test_training_on_from_a_foreign_checkpoint(here: Here, run_folder: Path, what: str) -> None:
    """What was not written by this run is never trained on: one line, or the usual warning and a fresh start."""
    (run_folder / "summary.json").unlink()
    CHECKPOINTS[what](run_folder / "checkpoints" / "last.pt")
    done = here("train", *FAST, status=None)
    if done.status == 0:
        assert "warning: " in done.out and "last.pt" in done.out and done.err == ""
    else:
        assert done.status == 2
        assert_one_line(done.err, "last.pt")


def test_eval_of_a_checkpoint_by_its_path_and_typing_errors(here: Here, run_folder: Path) -> None:
    assert "test" in here("eval", run_folder / "checkpoints" / "best.pt", "--json").out
    done = here("eval", str(run_folder)[:-3], status=2)
    assert_one_line(done.err, "there is no folder", f"runs near it: {run_folder}")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda text: text.replace("kind: cnn", "kind: cnm"), "did you mean 'cnn'?"),
        (lambda text: text + "surprise: 1\n", "surprise"),
        (lambda text: text.replace("seed: 0", "seed: zero"), "seed"),
        (lambda text: text.replace("trainer:", "trainers:"), "trainer"),
        (lambda text: text[:100] + "{[", "config.yaml"),
        (lambda text: "", "config.yaml"),
        (lambda text: "- a\n- b\n", "config.yaml"),
    ],
    ids=["kind", "key", "type", "group", "yaml", "empty", "list"],
)
def test_eval_of_a_config_that_is_none(here: Here, run_folder: Path, change: Callable[[str], str], part: str) -> None:
    file = run_folder / "config.yaml"
    file.write_text(change(file.read_text()))
    done = here("eval", run_folder, status=2)
    assert_one_line(done.err, part, "config.yaml")


def test_eval_on_data_of_another_shape(here: Here, run_folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", classes=2, size=16)
    done = here("eval", run_folder, "--data", "digts", status=2)
    assert_one_line(done.err, "did you mean 'digits'?")
    done = here("eval", run_folder, "--data", "image_folder", status=2)
    assert_one_line(done.err, "data.root")


def write_images(root: Path, classes: int, size: int) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for label in range(classes):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (size, size), (40 * label, 10 * number, 0)).save(folder / f"{number}.png")


@pytest.mark.slow
def test_a_picture_that_is_none_ends_in_one_line(start: Start, tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", classes=2, size=16)
    for number in range(6):
        (tmp_path / "pictures" / "train" / "1" / f"{number}.png").write_text("no picture")
    line = ["data=image_folder", f"data.root={tmp_path / 'pictures'}", "data.image_size=16", "data.val_size=2"]
    running = start("train", *FAST, *line, "data.workers=1")
    assert running.wait() == 2, running.err
    assert_one_line(running.err, "cannot read the picture", ".png")
    assert leftovers(tmp_path) == []
