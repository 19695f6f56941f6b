"""Weights & Biases beside the files. Trouble here is one warning and never stops training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hyperrun.config import Config, run_hash, to_dict
from hyperrun.runs.folder import RunFolder

DEFAULT_PROJECT = "hyperrun"
"""That of conf/tracking/default.yaml."""
MODES = {"online", "offline", "disabled", "shared", "dryrun"}


def choose_mode(wanted: str) -> tuple[str, str]:
    """Return (online | offline | disabled, reason) without asking the network or the user.

    auto follows $WANDB_MODE, else whether there is a login. Deciding before init matters: an init that fails online and
    falls back can hang, and a login prompt stops a batch job.
    """
    if wanted != "auto":
        return wanted, f"tracking.wandb.mode={wanted} was asked for"
    env = os.environ.get("WANDB_MODE", "")
    if env in MODES:
        return {"dryrun": "offline"}.get(env, env), f"$WANDB_MODE is {env}"
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "online", "there is an API key in the environment"
    if _netrc_has_login():
        return "online", "you are logged in"
    return "offline", "not logged in (wandb login)"


def _netrc_has_login() -> bool:
    try:
        import wandb
        from wandb.sdk.lib.wbauth import read_netrc_auth

        return bool(read_netrc_auth(host=os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url))
    except Exception:  # a private function that may move: then offline, which loses nothing
        return False


class WandbRun:
    """A W&B run, or nothing at all if W&B is disabled or has failed."""

    def __init__(self, run: Any, warn: Callable[[str], None]) -> None:
        self.run = run
        self.warn = warn

    def log(self, row: dict[str, Any]) -> None:
        self._try(lambda run: run.log(row))

    def summarize(self, summary: dict[str, Any]) -> None:
        """Set the run's summary: the same keys as in summary.json."""
        self._try(lambda run: run.summary.update(summary))

    def finish(self, exit_code: int) -> None:
        self._try(lambda run: run.finish(exit_code=exit_code))

    def _try(self, action: Callable[[Any], object]) -> None:
        if self.run is None:
            return
        try:
            action(self.run)
        except Exception as error:
            self.run = None
            self.warn(f"W&B stopped recording ({first_line(error)}); metrics.jsonl goes on")


@contextmanager
def wandb_run(
    config: Config,
    folder: RunFolder,
    summary: dict[str, Any],
    group: str | None,
    mode: str,
    warn: Callable[[str], None],
) -> Iterator[WandbRun]:
    """Record a training run: its id is the config's hash, so that a resumed run continues the same W&B run."""
    tracked = WandbRun(_init(config, folder, summary, group, mode, warn), warn)
    try:
        yield tracked
    except BaseException:
        tracked.finish(exit_code=1)
        raise
    tracked.finish(exit_code=0)


def _init(
    config: Config,
    folder: RunFolder,
    summary: dict[str, Any],
    group: str | None,
    mode: str,
    warn: Callable[[str], None],
) -> Any:
    if mode == "disabled":
        return None
    settings = config.tracking.wandb
    try:
        run = begin_anyhow(
            mode,
            warn,
            project=project_of(settings.project),
            entity=settings.entity,
            id=f"{run_hash(config)}-s{config.seed}",
            name=folder.path.name,
            resume="allow",
            group=settings.group or group,
            job_type="train",
            tags=sorted({config.data.name, config.hypernet.kind, *settings.tags}),
            config={**summary, **to_dict(config)},
            dir=str(folder.path),
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run
    except Exception as error:
        warn(f"W&B is off for this run ({first_line(error)}); metrics.jsonl is written all the same")
        return None


def project_of(asked: str) -> str:
    """Return $WANDB_PROJECT where the config names no other project than the default, else what it names."""
    return os.environ.get("WANDB_PROJECT") or asked if asked == DEFAULT_PROJECT else asked


def begin_anyhow(mode: str, warn: Callable[[str], None], **arguments: Any) -> Any:
    """Return what `begin` does; where W&B cannot be reached, a run that is recorded offline."""
    try:
        return begin(mode, **arguments)
    except Exception as error:
        if mode != "online":
            raise
        warn(f"W&B cannot be reached ({first_line(error)}): recorded offline; wandb sync uploads it")
        import wandb

        wandb.teardown()  # its service would still hold the run's id, and refuse it a second time
        return begin("offline", **arguments)


def begin(mode: str, **arguments: Any) -> Any:
    """Return wandb.init(mode=mode, **arguments), silent. Offline nothing uses the network. Raises what W&B raises."""
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # the one thing that would still use it
    for name in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]:
        del os.environ[name]  # as if it were not set: W&B takes an empty one for a wrong one
    import wandb

    # what is given here would win over the environment
    patience = float(os.environ.get("WANDB_INIT_TIMEOUT", 60))
    settings = wandb.Settings(console="off", init_timeout=patience, silent=True)
    return wandb.init(mode=mode, settings=settings, **arguments)  # type: ignore[arg-type]


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
