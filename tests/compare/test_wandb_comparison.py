"""compare --wandb: what an offline run holds, read with W&B's own reader, and the saved view at a stand-in server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperrun import cli
from hyperrun.compare import Comparison, compare, read_runs
from hyperrun.compare.wandb_comparison import VIEW, project_of, save_view
from tests.made_up_runs import made_up_run
from tests.running import Running
from tests.tracking.test_wandb import inspect, records


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        made_up_run(tmp_path / "outputs", "model=cnn", f"seed={seed}", test=0.9 + seed / 100, trainable=4000)
    made_up_run(tmp_path / "outputs", "model=hypercnn", test=0.88, trainable=900)
    return tmp_path / "outputs"


@pytest.mark.slow
def test_offline_everything_is_made_and_the_line_to_run_later_is_printed(outputs: Path) -> None:
    # in a process of its own: W&B's service would outlive the test, and runs of later tests would go to it
    running = Running("compare", "outputs", "--wandb", cwd=outputs.parent, env={"WANDB_MODE": "offline"})
    assert running.wait() == 0, running.err
    out = running.out
    (offline,) = (outputs / "wandb").glob("offline-run-*")
    assert "W&B     offline ($WANDB_MODE is offline)" in out and f"wandb sync outputs/wandb/{offline.name}" in out
    assert "hyperrun compare outputs --wandb" in out
    (run,) = records(offline, "run")
    assert run["job_type"] == "compare" and run["project"] == "hyperrun"
    assert json.loads(inspect(offline, "--summary"))["state"] == "finished"
    (logged,) = records(offline, "history")
    item = logged["item"]
    assert (item["digits/table._type"], item["digits/plot._type"]) == ("table-file", "image-file")
    table = json.loads((offline / "files" / item["digits/table.path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["model"], row["n"], row["params/trainable"]) for row in rows] == [
        ("cnn", 2, 4000),
        ("hypercnn", 1, 900),
    ]
    assert rows[0]["test/mean"] == pytest.approx(0.905)
    picture = offline / "files" / item["digits/plot.path"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "digits/scatter" in json.dumps(records(offline, "config")), "W&B keeps a chart's settings in the config"


def test_disabled_is_said_in_one_line(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert cli.main(["compare", "outputs", "--wandb"]) == 2
    assert capsys.readouterr().err == "hyperrun: error: --wandb: $WANDB_MODE is disabled\n"


def test_it_goes_to_the_project_that_most_runs_are_in(tmp_path: Path) -> None:
    for seed, project in enumerate(("mine", "mine", "other")):
        made_up_run(tmp_path, f"tracking.wandb.project={project}", "tracking.wandb.entity=me", f"seed={seed}")
    assert project_of(read_runs([tmp_path]).finished) == ("me", "mine")


# ---------------------------------------------------------------- the saved view


class Server:
    """What W&B keeps of views: upserts by id and name, as its GraphQL does."""

    def __init__(self) -> None:
        self.views: dict[str, dict[str, Any]] = {}

    def __call__(self, api: Any, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" not in query:
            found = self.views.get(variables["viewName"])
            return {"project": {"allViews": {"edges": [{"node": found}] if found else []}}}
        name = variables["name"]
        if name in self.views:
            assert variables["id"] == self.views[name]["id"], "else W&B would make a second view"
        self.views[name] = {"id": "id-1", "displayName": variables["displayName"], "spec": variables["spec"]}
        return {"upsertView": {"view": {"id": "id-1", "name": name}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    server = Server()
    monkeypatch.setattr(workspaces.internal, "execute_graphql", server)
    monkeypatch.setattr(workspaces.interface, "get_app_url", lambda api: "https://app")
    monkeypatch.setattr("wandb.Api", lambda *args, **kwargs: None)
    return server


def comparisons(outputs: Path) -> list[Comparison]:
    return compare(read_runs([outputs]))


def test_the_view_has_the_scatter_and_is_one_for_each_project(outputs: Path, server: Server) -> None:
    first = save_view("me", "hyperrun", comparisons(outputs))
    assert first.startswith("https://app/me/hyperrun?nw=")
    assert save_view("me", "hyperrun", comparisons(outputs)) == first
    (view,) = server.views.values()
    assert view["displayName"] == VIEW
    (section,) = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    axes = [(panel["config"]["xAxis"], panel["config"]["yAxis"]) for panel in section["panels"]]
    assert axes[0] == ("summary:params/trainable", "summary:test/accuracy")
    assert all(panel["config"]["xAxisLogScale"] for panel in section["panels"])


def test_trouble_with_the_view_is_said_and_no_more(
    outputs: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("not yours")

    from wandb_workspaces.workspaces import internal

    monkeypatch.setattr(internal, "execute_graphql", refuse)
    assert save_view("me", "hyperrun", comparisons(outputs)) == "not saved: not yours"
