"""hyperrun export, and load_run: the plain network in three formats, its card, and the same outputs as the run's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hyperrun import load_run, materialize
from hyperrun.data import load_images
from hyperrun.errors import UserError
from tests.end_to_end.test_text_runs import CHORUS, LINE
from tests.running import FAST, Running, only_run, summary

Here = Callable[..., Any]

RESNET = ("target=torchvision", "target.name=resnet18", "hypernet=chunked", "trainer.max_steps=2", *FAST[1:])


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of a torchvision model with generated weights."""
    running = Running("train", *RESNET, cwd=tmp_path_factory.mktemp("resnet"))
    assert running.wait(300) == 0, running.err
    return running.folder


def images(run: Path) -> torch.Tensor:
    """Return test images as the run saw them."""
    data = load_images(load_run(run).config.data)  # type: ignore[arg-type]
    x = data.test.fetch(torch.arange(len(data.test))).float() / 255
    return (x - data.mean.view(-1, 1, 1)) / data.std.view(-1, 1, 1)


@pytest.mark.slow
def test_load_run_gives_the_trained_model(resnet: Path) -> None:
    loaded = load_run(resnet)
    assert loaded.config.target.name == "resnet18" and loaded.vocabulary is None  # type: ignore[attr-defined]
    assert loaded.summary == summary(resnet) and not loaded.model.training
    labels = load_images(loaded.config.data).test.labels  # type: ignore[arg-type]
    x = images(resnet)
    with torch.no_grad():
        accuracy = (loaded.model(x).argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(loaded.summary["test/accuracy"], abs=0.003)
    assert load_run(str(resnet), which="last").folder.path == resnet


@pytest.mark.slow
def test_safetensors_load_with_torchvision_alone(here: Here, resnet: Path, tmp_path: Path) -> None:
    done = here("export", resnet, "--out", "plain")
    assert done.out.splitlines() == ["plain/model.safetensors", "plain/README.md"]
    assert (tmp_path / "plain" / "model.safetensors").stat().st_mode & 0o077, "others may read it, too"
    card = (tmp_path / "plain" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "hyperrun" not in code
    names: dict[str, Any] = {}
    exec(code.replace("model.safetensors", str(tmp_path / "plain" / "model.safetensors")), names)
    x = images(resnet)
    with torch.no_grad():
        assert torch.equal(names["model"](x), load_run(resnet).model(x))
    assert not list((tmp_path / "plain").glob("*tmp*"))


@pytest.mark.slow
def test_the_card_says_what_it_is(here: Here, resnet: Path, tmp_path: Path) -> None:
    here("export", resnet, "--out", tmp_path)
    card, found = (tmp_path / "README.md").read_text(), summary(resnet)
    assert card.startswith("# chunked-resnet18 on digits\n")
    for wanted in (
        f"{found['params/target']:,}",
        f"{found['params/trainable']:,}",
        f"{found['test/accuracy']:.4f}",
        found["command"],
        "kind: chunked",
        "float32 [batch, 1, 8, 8]; logits [batch, 10]",
        str(found["data/mean"]),
    ):
        assert wanted in card, wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_gives_the_same_classes(here: Here, resnet: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    done = here("export", resnet, "--format", "onnx", "--out", "there")
    assert done.out.splitlines()[-2:] == ["there/model.onnx", "there/README.md"]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["README.md", "model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "there" / "model.onnx")
    x = images(resnet)
    (logits,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        ours = load_run(resnet).model(x).numpy()
    np.testing.assert_allclose(logits, ours, rtol=1e-3, atol=1e-4)
    assert (logits.argmax(1) == ours.argmax(1)).all()
    assert session.run(None, {"images": x[:1].numpy()})[0].shape == (1, 10), "any batch"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_pt2_gives_the_same_logits(here: Here, resnet: Path, tmp_path: Path) -> None:
    here("export", resnet, "--format", "pt2", "--out", tmp_path)
    model, x = torch.export.load(tmp_path / "model.pt2").module(), images(resnet)
    with torch.no_grad():
        torch.testing.assert_close(model(x), load_run(resnet).model(x))
        assert model(x[:1]).shape == (1, 10)


def test_a_plain_run_is_exported_as_it_is(here: Here, tmp_path: Path) -> None:
    here("train", "model=cnn", *FAST)
    run = only_run(tmp_path)
    done = here("export", run)
    assert done.out.splitlines()[0] == str(run / "export" / "model.safetensors")
    model = load_run(run).model
    written = load_file(run / "export" / "model.safetensors")
    assert all(torch.equal(value, written[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_mistakes_are_one_line(here: Here, resnet: Path, tmp_path: Path) -> None:
    for line, said in (
        (("export", "nowhere"), "there is no folder nowhere"),
        (("export", resnet, "--format", "onx"), "invalid choice"),
        (("export", resnet, "--checkpoint", "best", "--formt", "onnx"), "did you mean '--format'?"),
    ):
        done = here(*line, status=2)
        assert said in done.err and done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_language_models(here: Here, tmp_path: Path) -> None:
    (tmp_path / "chorus.txt").write_text(CHORUS)
    text = [word.replace("../", "") for word in LINE]
    for model in ("lstm", "hyperlstm"):
        here("train", *text, f"model={model}", f"outputs={model}", "trainer.max_steps=2", "target.hidden_size=8")
    (direct,), (dynamic,) = (list(tmp_path.glob(f"{model}/*/*/config.yaml")) for model in ("lstm", "hyperlstm"))
    here("export", direct.parent, "--out", "there")
    loaded = load_run(direct.parent)
    assert loaded.vocabulary is not None
    tensors = load_file(tmp_path / "there" / "model.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in loaded.model.state_dict().items())
    done = here("export", direct.parent, "--format", "onnx", status=2)
    assert "ONNX and pt2 are for runs on images" in done.err
    done = here("export", dynamic.parent, status=2)
    assert "a dynamic hypernet changes the weights at every step" in done.err
    with pytest.raises(UserError):
        materialize(load_run(dynamic.parent).model)


def test_the_library_is_imported_when_it_is_asked_for() -> None:
    import hyperrun

    assert set(hyperrun.__all__) == {"HyperLSTM", "__version__", "hypernetize", "load_run", "materialize"}
    assert hyperrun.hypernetize is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        hyperrun.nothing  # noqa: B018
