"""hyperrun export RUN: the trained network as a plain one, its generated weights written in, with a model card."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import save
from torch import Tensor, nn

from hyperrun.arguments import Arguments
from hyperrun.config import Config, to_dict
from hyperrun.data.kinds import ImageData, TaskData
from hyperrun.errors import UserError
from hyperrun.hypernets import as_hypernetized, materialize
from hyperrun.inputs import Images, SentencePairs, Strokes, Symbols
from hyperrun.load import LoadedRun, load_run
from hyperrun.prediction import Preparation, in_words, preparation_of, rounded
from hyperrun.registry import chosen
from hyperrun.runs.folder import write_beside
from hyperrun.targets.torchvision_models import TorchvisionTarget


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun export", "Write a run's network as a plain one, with the generated weights in it.")
    parser.add_run("run folder")
    parser.add_argument(
        "--format", choices=list(FORMATS), default="safetensors", help="state dict, ONNX, or torch.export"
    )
    parser.add_out("DIR", "where to (default: RUN/export, RUN/export/taskN)")
    parser.add_argument("--task", type=int, metavar="N", help="of a hypernet trained on tasks: for which one")
    parser.add_checkpoint()
    parser.add_plugins()
    args = parser.parse_with_plugins(argv)
    for path in export(args.run, args.format, args.out, args.checkpoint, args.task):
        print(path)
    return 0


def export(
    run: str, format: str = "safetensors", out: Path | None = None, which: str = "best", task: int | None = None
) -> list[Path]:
    """Write model.FORMAT and README.md, the model card, into a folder; return their paths.

    ONNX and pt2 take images float32 [batch, C, H, W], any batch, and give logits float32 [batch, classes].

    Raises:
        UserError: no run folder; a task for a run that has none, or none for one that has; a dynamic hypernet, whose
            weights are others at every step; a text model for ONNX or pt2; a package that is missing.
    """
    loaded = load_run(run, which)
    condition = condition_of(loaded, task)
    prepared = preparation_of(loaded, task) if isinstance(loaded.config.data, ImageData) else None
    plain = materialize(loaded.model, condition).eval().requires_grad_(False)
    folder = out or loaded.folder.path / "export" / ("" if task is None else f"task{task}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    file, card = folder / f"model.{format}", folder / "README.md"
    beside = file.with_name(f"model.{os.getpid()}.tmp.{format}")  # torch.export goes by the end of the name
    try:
        FORMATS[format](plain, loaded, prepared, beside)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)
    write_beside(card, model_card(plain, loaded, prepared, folder, which, task))
    return [file, card]


def condition_of(loaded: LoadedRun, task: int | None) -> Tensor | None:
    """Return what a conditional hypernet makes the weights from: the number of the task."""
    data, hyper = loaded.config.data, as_hypernetized(loaded.model)
    conditional = hyper is not None and hyper.conditional
    if isinstance(data, TaskData) and conditional:
        if task is None or not 0 <= task < data.tasks:
            raise UserError(f"--task must say which network to write: 0 to {data.tasks - 1}")
        return torch.tensor(task)
    if task is not None:
        raise UserError("--task is for a hypernet that was trained on tasks")
    if conditional:
        how = "materialize(load_run(RUN).model, latent) gives one, hyperrun sample RUN draws many"
        raise UserError(f"model={loaded.config.model} has a network for each latent: {how}")
    return None


# ---------------------------------------------------------------- formats


def write_safetensors(plain: nn.Module, loaded: LoadedRun, prepared: Preparation | None, path: Path) -> None:
    tensors, seen = {}, set()
    for name, tensor in plain.state_dict().items():
        # of tied parameters one is written; where the other stands it is the same object again
        if tensor.data_ptr() not in seen or not tensor.numel():
            tensors[name] = tensor.contiguous()
        seen.add(tensor.data_ptr())
    path.write_bytes(save(tensors, metadata={"format": "pt"}))  # save_file would make it readable for its owner alone


def write_onnx(plain: nn.Module, loaded: LoadedRun, prepared: Preparation | None, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("--format onnx needs the extra onnx (pip install onnx onnxscript)") from None
    program = torch.onnx.export(
        plain,
        (example(loaded),),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(prepared.metadata() if prepared is not None else {})
    program.save(path, external_data=False)


def write_pt2(plain: nn.Module, loaded: LoadedRun, prepared: Preparation | None, path: Path) -> None:
    program = torch.export.export(plain, (example(loaded),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)


def example(loaded: LoadedRun) -> Tensor:
    """Return two images of the right shape, of zeros (of one the batch would be taken for a constant)."""
    inputs = loaded.inputs.of_one()
    if not isinstance(inputs, Images):
        raise UserError("ONNX and pt2 are for runs on images; a model of sequences is written as safetensors")
    return torch.zeros(2, inputs.channels, inputs.size, inputs.size)


FORMATS: dict[str, Callable[[nn.Module, LoadedRun, Preparation | None, Path], None]] = {
    "safetensors": write_safetensors,
    "onnx": write_onnx,
    "pt2": write_pt2,
}


# ---------------------------------------------------------------- the card

SPLITS = (("validation", "val"), ("test", "test"))


def model_card(
    plain: nn.Module,
    loaded: LoadedRun,
    prepared: Preparation | None,
    folder: Path,
    which: str,
    task: int | None = None,
) -> str:
    """Return what the network is, how good, how it is loaded, and from which config it comes, as Markdown."""
    summary, config = loaded.summary, loaded.config
    metric = summary.get("metric", "accuracy") + ("" if task is None else f"/task{task}")
    of = "" if task is None else f", task {task} ({summary.get('data/tasks', {})[task]})"
    rows = [
        ("trained as", f"`{summary.get('command', 'unknown')}`"),
        ("checkpoint", f"{which} (step {summary.get('best/step', '?')})" if which == "best" else which),
        *((f"{split} {metric}", in_short(summary.get(f"{key}/{metric}"))) for split, key in SPLITS),
        ("parameters of this network", f"{sum(p.numel() for p in plain.parameters()):,}"),
        ("trainable parameters while training", f"{summary.get('params/trainable', 0):,}"),
        ("of these parameters generated", f"{summary.get('params/generated', 0):,}"),
        ("seed", config.seed),
        ("precision", summary.get("precision")),
        ("torch", summary.get("torch")),
        ("needs, to be built again", needed(config)),
        ("hyperrun commit", summary.get("git")),
    ]
    facts = "\n".join(f"| {name} | {value} |" for name, value in rows if value is not None)
    yaml = OmegaConf.to_yaml(OmegaConf.create(to_dict(config))).strip()
    return f"""# {config.model} on {config.data.name}{of}

| | |
| :- | :- |
{facts}

## Input and output

{describe_data(loaded, prepared)}

## Loading it

{loading(plain, loaded, prepared, folder, task)}

## Config

```yaml
{yaml}
```
"""


def in_short(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def describe_data(loaded: LoadedRun, prepared: Preparation | None) -> str:
    inputs = loaded.inputs.of_one()
    if isinstance(inputs, Symbols):
        symbols = inputs.vocabulary
        return f"Token ids, int64 [batch, time], of a vocabulary of {symbols}; logits [batch, time, {symbols}]."
    if isinstance(inputs, SentencePairs):
        return (
            f"Sources, int64 [batch, S], of a vocabulary of {inputs.source} pieces, and their lengths; targets without "
            f"their last piece, int64 [batch, T], and their lengths; logits [batch, T, {inputs.target}]."
        )
    if isinstance(inputs, Strokes):
        assert loaded.scale is not None
        outputs = 6 * loaded.config.target.mixtures + 1  # pyright: ignore[reportAttributeAccessIssue]
        return (
            f"Pen strokes, float32 [batch, time, 3]: dx, dy, pen up; outputs [batch, time, {outputs}], the parameters "
            "of the next point's density (hyperrun.tasks.mixture_density).\n"
            f"dx and dy less their mean {loaded.scale.mean.tolist()}, over their deviation {loaded.scale.std.tolist()}."
        )
    assert isinstance(inputs, Images) and prepared is not None
    shape = f"[batch, {inputs.channels}, {inputs.size}, {inputs.size}]"
    return f"Images, float32 {shape}; logits [batch, {inputs.classes}].\n\n{in_words(prepared)}"


def plugins_of(config: Config) -> list[str]:
    """Return the modules of the user's own that define the network."""
    parts = (chosen("target", config.target.kind), chosen("hypernet", config.hypernet.kind))
    modules = {part.build.__module__ for part in parts}
    own = sorted(module for module in modules if module.partition(".")[0] != "hyperrun")
    return own and (config.plugins or own)


def needed(config: Config) -> str | None:
    """Return what of the user's own code the network needs; None for none."""
    own = plugins_of(config)
    if not own:
        return None
    return f"{' and '.join(f'`{name}.py`' for name in own)}, of which its parts come (`--plugins {','.join(own)}`)"


def loading(
    plain: nn.Module, loaded: LoadedRun, prepared: Preparation | None, folder: Path, task: int | None = None
) -> str:
    """Return how each file in the folder is read."""
    found = []
    if (folder / "model.safetensors").exists():
        target = loaded.config.target
        if isinstance(target, TorchvisionTarget):
            made = f"import torchvision\nfrom torch import nn\n\n{torchvision_code(plain, loaded, target)}"
        else:
            condition = "" if task is None else f", {task}"
            own = "".join(f"import {name}  # makes its parts known\n" for name in plugins_of(loaded.config))
            made = f"{own}from hyperrun import load_run, materialize\n\n"
            made += f"model = materialize(load_run(RUN).model{condition})"
        read = 'model.load_state_dict(load_file("model.safetensors"))\nmodel.eval()'
        found.append(f"from safetensors.torch import load_file\n{made}\n{read}")
    if (folder / "model.onnx").exists():
        run = 'session = onnxruntime.InferenceSession("model.onnx")\n(logits,) = session.run(None, {"images": images})'
        assert prepared is not None
        read = reading(prepared) if prepared.channels in (1, 3) else ""
        found.append(f"import numpy as np\nimport onnxruntime\n{read}\n{run}")
    if (folder / "model.pt2").exists():
        found.append('import torch\n\nmodel = torch.export.load("model.pt2").module()')
    return "\n\n".join(f"```python\n{code}\n```" for code in found)


def reading(prepared: Preparation) -> str:
    """Return lines that read a picture as the network takes it."""
    mode, order = ("L", "[None]") if prepared.channels == 1 else ("RGB", ".transpose(2, 0, 1)")
    mean, std = (f"np.float32({rounded(values)}).reshape(-1, 1, 1)" for values in (prepared.mean, prepared.std))
    size = (prepared.size, prepared.size)
    return f"""from PIL import Image, ImageOps

picture = ImageOps.exif_transpose(Image.open("some.png")).convert("{mode}")
pixels = np.float32(ImageOps.fit(picture, {size}, Image.Resampling.BILINEAR)){order} / 255
images = ((pixels - {mean}) / {std})[None]"""


def torchvision_code(plain: nn.Module, loaded: LoadedRun, target: TorchvisionTarget) -> str:
    """Return lines that make the network with torchvision alone: its model, and the layers that were changed for data
    of other channels or small images."""
    import torchvision

    from hyperrun.targets.torchvision_models import builder_options

    inputs = loaded.inputs.of_one()
    assert isinstance(inputs, Images)
    options = builder_options(target.name, inputs.classes, inputs.size)
    theirs = dict(torchvision.models.get_model(target.name, **options).named_modules())
    arguments = ", ".join(f"{key}={value!r}" for key, value in options.items())
    lines = [f"model = torchvision.models.{target.name}({arguments})"]
    for name, module in plain.named_modules():
        if not any(module.children()) and repr(module) != repr(theirs.get(name)):
            lines.append(f'model.set_submodule("{name}", nn.{module!r})')
    return "\n".join(lines)
