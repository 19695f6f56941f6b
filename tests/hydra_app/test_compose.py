"""How often Hydra composes and reads a file for one line, and that it comes to the same."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from hyperrun.conf_dir import CONF_DIR
from hyperrun.hydra_app.compose import ConfigLoader, composing
from hyperrun.hydra_app.config_files import Repository
from hyperrun.hydra_app.replaced import VERSION_BASE
from tests.running import FAST

Here = Callable[..., Any]


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
@pytest.mark.parametrize(
    "line",
    [
        ["model=hyperlstm", "data=pydocs", "trainer.epochs=3"],
        ["experiment=ha2016/mnist_cnn", "optim=adam", "hydra.job.name=mine"],
        ["model=lstm,hyperlstm", "data=pydocs", "target.hidden_size=32", "seed=1,2"],
        ["sweep=z_dim"],
    ],
)
def test_what_was_composed_to_know_the_mode_is_what_it_would_be(line: list[str], mode: RunMode) -> None:
    def composed(asked_before: bool) -> Any:
        with composing(), initialize_config_dir(str(CONF_DIR), version_base=VERSION_BASE):
            hydra: Any = GlobalHydra.instance().hydra
            if asked_before:
                hydra.get_mode("train", line)
            try:
                cfg = hydra.compose_config("train", [*line, f"hydra.mode={mode.name}"], run_mode=mode)
            except Exception as error:
                return str(error)
            return OmegaConf.to_container(cfg, resolve=False)

    assert composed(True) == composed(False)


def test_one_line_is_composed_once(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []
    theirs = ConfigLoaderImpl.load_configuration

    def counted(self: Any, config_name: str, overrides: list[str], *args: Any) -> Any:
        lines.append(list(overrides))
        return theirs(self, config_name, overrides, *args)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    here("train", *FAST, "--dry-run")
    assert lines == [list(FAST)]
    lines.clear()
    here("train", "-m", *FAST, "seed=0,1", "--dry-run")
    sweep, *jobs = lines
    assert sweep == [*FAST, "seed=0"] and [job[-1] for job in jobs] == ["seed=0", "seed=1"], "itself, then each job"


def repository(folder: Path) -> Repository:
    places = ConfigSearchPathImpl()
    places.append("main", f"file://{folder}")
    return Repository(places)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    theirs = OmegaConf.load
    monkeypatch.setattr(OmegaConf, "load", lambda file: reads.append(file) or theirs(file))
    file = tmp_path / "mine.yaml"
    file.write_text("a: {b: 1}\n")
    files = repository(tmp_path)
    first, second = files.load_config("mine"), files.load_config("mine")
    assert first is not None and second is not None and len(reads) == 1
    first.config.a.b = 7
    assert second.config.a.b == 1, "each reader has its own"
    file.write_text("a: {b: 2}\n")
    os.utime(file, ns=(0, 5))
    third = copy.deepcopy(files).load_config("mine")
    assert third is not None and third.config.a.b == 2 and len(reads) == 2
    file.unlink()
    assert files.load_config("mine") is None


def test_a_copy_has_sources_of_its_own(tmp_path: Path) -> None:
    files = repository(tmp_path)
    other = copy.deepcopy(files)
    other.sources.clear()
    assert len(files.sources) == 1


def test_the_loader_travels_without_what_it_has_composed(tmp_path: Path) -> None:
    loader = ConfigLoader.__new__(ConfigLoader)
    loader.asked, loader.checked = ([], OmegaConf.create()), {("a",): OmegaConf.create()}
    state = loader.__getstate__()
    assert state["asked"] is None and state["checked"] == {}
