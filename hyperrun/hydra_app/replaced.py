"""Everything of other packages that hyperrun replaces, or uses although it is private, and where it was seen.

The next version of such a package may do without one of these names. hyperrun asks for those of Hydra and OmegaConf
when it starts, for those of a launcher when that is used, and for those of torch when something has failed; one that
is gone is a UserError that says which versions have it. tests/test_architecture.py finds private names that do not
stand here. Documented, and therefore not here: argparse.ArgumentParser.error, which hydra_app/app.py replaces.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import hydra

from hyperrun.errors import UserError

VERSION_BASE = "1.3" if hydra.__version__.startswith("1.3") else None
"""For hydra.main and initialize_config_dir: 1.3 wants it named; 1.4 wants it left out."""


@dataclass(frozen=True)
class Borrowed:
    """Names of one package, as "module:name.of.the.thing"."""

    seen_in: tuple[str, ...]
    """Versions of the package that have all of them."""
    needed: tuple[str, ...]
    guarded: tuple[str, ...] = ()
    """The code that uses these does without where they are missing."""
    of_instances: tuple[str, ...] = ()
    """Attributes that only instances have, so that nothing can be asked for beforehand."""


BORROWED = {
    "hydra-core": Borrowed(
        ("1.3.8", "1.4.0rc3"),
        needed=(
            "hydra._internal.hydra:ConfigLoaderImpl",  # replaced by compose.ConfigLoader, to run, to print, for sweeps
            "hydra._internal.config_loader_impl:ConfigLoaderImpl.load_configuration",  # which ConfigLoader extends
            "hydra._internal.config_loader_impl:ConfigLoaderImpl.load_sweep_config",
            "hydra._internal.config_loader_impl:ConfigLoaderImpl.get_group_options",
            "hydra._internal.config_loader_impl:ConfigLoaderImpl._compose_config_from_defaults_list",
            "hydra._internal.config_loader_impl:ConfigLoaderImpl.validate_sweep_overrides_legal",
            "hydra._internal.config_repository:IConfigRepository",  # its type
            "hydra._internal.config_repository:ConfigRepository.load_config",  # extended (config_files.py)
            "hydra._internal.config_repository:ConfigRepository._find_object_source",
            "hydra.plugins.config_source:ConfigSource._normalize_file_name",
            "hydra.core.default_element:ResultDefault",  # a file that a config is composed of
            "hydra._internal.utils:_run_app",  # replaced where jobs are planned instead of run (plan.py)
            "hydra._internal.core_plugins.basic_sweeper:BasicSweeper.split_arguments",  # called there
            "hydra.core.plugins:Plugins.instantiate_launcher",  # replaced, to record how jobs end (sweep.py)
            "hydra.plugins.sweeper:Sweeper.validate_batch_is_legal",  # replaced by compose.check_jobs (sweep.py)
        ),
        of_instances=(
            "hydra._internal.config_loader_impl:ConfigLoaderImpl.repository",  # replaced; whether there is a group
            "hydra._internal.config_repository:ConfigRepository.sources",
        ),
    ),
    "omegaconf": Borrowed(
        ("2.3.1", "2.4.1rc1"),
        needed=(
            "omegaconf:DictConfig._get_node",  # keys named in an error, without resolving their values (explain.py)
            "omegaconf:DictConfig._is_none",
            "omegaconf:DictConfig._is_missing",
        ),
    ),
    "hydra-ray-launcher": Borrowed(
        ("1.2.2",),
        needed=(
            "hydra_plugins.hydra_ray_launcher._core:launch_job_on_ray",  # replaced, to know the jobs (launchers.py)
            "hydra_plugins.hydra_ray_launcher._core:start_ray",  # called before it calls it itself
        ),
        of_instances=("hydra_plugins.hydra_ray_launcher.ray_launcher:RayLauncher.ray_cfg",),
    ),
    "hydra-submitit-launcher": Borrowed(
        ("1.2.0",),
        needed=("hydra_plugins.hydra_submitit_launcher.submitit_launcher:LocalLauncher",),  # told by its name
        of_instances=("hydra_plugins.hydra_submitit_launcher.submitit_launcher:BaseSubmititLauncher.params",),
    ),
    "submitit": Borrowed(
        ("1.5.4",),
        # told by its name (sweep.py); besides, $SUBMITIT_EXECUTOR and its handler of SIGUSR2 (job.py)
        needed=("submitit.core.utils:FailedJobError",),
    ),
    "torch": Borrowed(
        ("2.15.0",),
        needed=(
            "torch.cpu:_is_amx_tile_supported",  # training/precision.py
            "torch.cpu:_is_avx512_bf16_supported",
            "torch:Tensor._version",  # whether parameters have changed (hypernets/apply.py)
            "torch.nn.modules.conv:_ConvNd",  # all convolutions, all norms: base classes without a public name
            "torch.nn.modules.batchnorm:_BatchNorm",
            "torch.nn.modules.batchnorm:_NormBase",
            "torch.utils._pytree:tree_map",  # hypernets/conditional.py, carried_state.py
            "torch.utils._pytree:tree_flatten",
            "torch:_C._are_functorch_transforms_active",  # hypernets/hyper_layers.py
            "torch:_C._get_mkldnn_enabled",  # hypernets/hyperlstm_fast/sequence.py
            "torch:_C._set_mkldnn_enabled",
        ),
        guarded=(
            "torch:ops.mkldnn._reorder_linear_weight",  # hypernets/hyperlstm_fast/blocks.py; not in every build
            "torch:ops.mkldnn._linear_pointwise",
            "torch._guards:TracingContext",  # hypernets/hyperlstm_fast/compiled_phases.py
            "torch._guards:tracing",
            "torch._inductor:config",
            "torch._inductor.compile_fx:compile_fx_inner",
            "torch._inductor.decomposition:select_decomp_table",
        ),
    ),
    "wandb-workspaces": Borrowed(
        ("0.4.13",),
        needed=(),
        guarded=("wandb_workspaces.workspaces:internal._url_query_str_to_internal_name",),  # compare --wandb
        of_instances=(
            "wandb_workspaces.workspaces:Workspace._internal_name",
            "wandb_workspaces.workspaces:Workspace._internal_id",
        ),
    ),
}
"""Package, as pip calls it -> what of it is borrowed."""


@contextmanager
def replaced(owner: Any, name: str, ours: Any) -> Iterator[None]:
    """Within the block, something of another package that has no other handle is ours."""
    theirs = getattr(owner, name)
    setattr(owner, name, ours)
    try:
        yield
    finally:
        setattr(owner, name, theirs)


def check_names(*packages: str) -> None:
    """Ask for all that is needed of these packages.

    Raises:
        UserError: the installed version lacks a name; says which versions have it.
    """
    for package in packages:
        missing = [name for name in BORROWED[package].needed if not is_there(name)]
        if missing:
            raise UserError(said_of_missing(package, missing[0]))


def missing_in_what_is_loaded() -> str | None:
    """Return what check_names says of the packages that this process has imported; None where nothing is missing.

    For errors that a missing name may have caused.
    """
    for package, borrowed in BORROWED.items():
        for name in borrowed.needed:
            if name.partition(":")[0].partition(".")[0] in sys.modules and not is_there(name):
                return said_of_missing(package, name)
    return None


def is_there(name: str) -> bool:
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def said_of_missing(package: str, name: str) -> str:
    try:
        here = version(package)
    except PackageNotFoundError:
        here = "(of unknown version)"
    known = BORROWED[package].seen_in
    dotted = name.replace(":", ".")
    return (
        f"{package} {here} has no {dotted}, which hyperrun relies on; known to have it: {package} {', '.join(known)} "
        f"(pip install {package}=={known[0]})"
    )
