"""Optimizers, what weight decay applies to, schedules, and the penalty on generated kernels."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.config import DECAY_KINDS, Config, OptimConfig
from hyperrun.errors import UserError
from hyperrun.hypernets import HyperModel, StaticConfig, with_hypernet
from hyperrun.inputs import Images
from hyperrun.targets import build_target
from hyperrun.targets.cnn import CNN
from hyperrun.targets.torchvision_models import TorchvisionTarget
from hyperrun.targets.wide_resnet import WideResNet
from hyperrun.tasks import classification
from hyperrun.tasks.classification import ClassificationLoss
from hyperrun.training.optim import (
    AdamConfig,
    MuonConfig,
    SGDConfig,
    build_optimizers,
    set_learning_rate,
    split_by_decay,
)
from hyperrun.training.schedules import (
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    OneCycleSchedule,
    lr_factor,
)
from tests.composed import compose_config

STATIC = StaticConfig("static", "conv", [], ["*shortcut*", "*downsample*"], 4, None, [4, 4], "variance_matched")
COMMON: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.0, "decay_on": ["weights", "hypernet"], "generated_l2": 0.0}


def sgd(**keys) -> SGDConfig:
    return SGDConfig(**{"kind": "sgd", **COMMON, "momentum": 0.9, "nesterov": True, **keys})


def adam(kind: str = "adam", **keys) -> AdamConfig:
    return AdamConfig(**{"kind": kind, **COMMON, "betas": [0.9, 0.999], "eps": 1e-8, **keys})


def muon(**keys) -> MuonConfig:
    return MuonConfig(**{"kind": "muon", **COMMON, "momentum": 0.95, "adamw_lr": 0.01, "betas": [0.9, 0.999], **keys})


OPTIMIZERS = {"sgd": sgd(), "adam": adam(), "adamw": adam("adamw"), "muon": muon()}


def cnn() -> CNN:
    return CNN(1, 10, 8, (4, 6), 3)


def small_wrn() -> WideResNet:
    return WideResNet(3, 10, 10, 1, shortcut="conv1x1", conv_bias=True, stem_norm=True)


def tv(name: str) -> nn.Module:
    return build_target(TorchvisionTarget("torchvision", name, True), Images(3, 32, 10, train=0))


TARGETS = {
    "cnn": cnn,
    "wide_resnet": small_wrn,
    **{name: (lambda name=name: tv(name)) for name in ("resnet18", "mobilenet_v3_small", "vgg11_bn", "vit_b_16")},
}


def meta(make, hyper: bool) -> nn.Module:
    with torch.device("meta"):
        return with_hypernet(replace(STATIC, generate="all"), make()) if hyper else make()


# ---------------------------------------------------------------- what weight decay applies to


def kinds(model: nn.Module) -> dict[str, str]:
    """Return name -> the entry of decay_on under which each trainable parameter falls."""
    names = {p: n for n, p in model.named_parameters()}
    found: dict[str, str] = {}
    for kind in DECAY_KINDS:
        for parameter in split_by_decay(model, [kind])[0]:
            assert names[parameter] not in found, "under two kinds"
            found[names[parameter]] = kind
    return found


@pytest.mark.parametrize("hyper", [False, True], ids=["direct", "hyper"])
@pytest.mark.parametrize("name", TARGETS)
def test_kinds_of_parameters(name, hyper):
    model = meta(TARGETS[name], hyper)
    found = kinds(model)
    assert found.keys() == dict(model.named_parameters()).keys()
    for parameter, kind in found.items():
        owner = model.get_submodule(parameter.rpartition(".")[0])
        leaf = parameter.rpartition(".")[2]
        if parameter.startswith("hypernet."):
            assert kind == {"z": "embeddings", "w_in": "hypernet", "w_out": "hypernet"}.get(leaf, "biases"), parameter
        elif leaf in ("bias", "in_proj_bias"):
            assert kind == "biases", parameter
        elif isinstance(owner, nn.BatchNorm2d | nn.LayerNorm):
            assert kind == "norms", parameter
        elif isinstance(owner, nn.Conv2d | nn.Linear):
            assert kind == "weights", parameter


@pytest.mark.parametrize(
    ("name", "parameter", "kind"),
    [
        ("vit_b_16", "class_token", "embeddings"),
        ("vit_b_16", "encoder.pos_embedding", "embeddings"),
        ("swin_t", "features.1.0.attn.relative_position_bias_table", "biases"),
        ("convnext_tiny", "features.1.0.layer_scale", "norms"),
    ],
)
def test_what_no_decay_is_meant_for_is_spared_in_torchvisions_models_too(name, parameter, kind):
    assert kinds(meta(lambda: tv(name), hyper=False))[parameter] == kind


def test_an_embedding_table_of_the_target_is_an_embedding():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    assert kinds(model) == {"0.weight": "embeddings", "1.weight": "weights", "1.bias": "biases"}


@pytest.mark.parametrize("decay_on", [["weights", "hypernet"], [], ["embeddings"], list(DECAY_KINDS)], ids=str)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_trainable_parameter_is_in_exactly_one_group(kind, decay_on):
    if kind == "muon" and decay_on in ([], ["embeddings"]):
        decay_on = ["weights"]
    cfg = replace(OPTIMIZERS[kind], weight_decay=0.01, decay_on=decay_on)
    model = with_hypernet(STATIC, small_wrn())
    model.target.fc.bias.requires_grad_(False)
    groups = [group for optimizer in build_optimizers(cfg, model) for group in optimizer.param_groups]
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for p in split_by_decay(model, decay_on)[0]}


def test_a_shared_parameter_is_updated_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    decayed, others = split_by_decay(model, ["weights"])
    assert len(decayed) == 1
    assert len(others) == 2


# ---------------------------------------------------------------- optimizers


def quadratic(seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    return nn.Linear(3, 2).double(), torch.randn(5, 3, dtype=torch.float64)


def run_steps(optimizers, model: nn.Module, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        model(x).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_is_momentum_sgd_with_decay_of_weights_only(nesterov):
    model, x = quadratic()
    cfg = sgd(lr=0.01, weight_decay=0.1, nesterov=nesterov)
    values = [p.detach().clone() for p in model.parameters()]
    speeds = [torch.zeros_like(v) for v in values]
    for _ in range(4):
        leaves = [v.clone().requires_grad_() for v in values]
        out = x @ leaves[0].T + leaves[1]
        for i, gradient in enumerate(torch.autograd.grad(out.square().sum(), leaves)):
            g = gradient + (0.1 * values[i] if i == 0 else 0)
            speeds[i] = 0.9 * speeds[i] + g
            values[i] = values[i] - 0.01 * (g + 0.9 * speeds[i] if nesterov else speeds[i])
    run_steps(build_optimizers(cfg, model), model, x, 4)
    torch.testing.assert_close(list(model.parameters()), [nn.Parameter(v) for v in values])


@pytest.mark.parametrize(("kind", "cls"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_and_adamw_are_torchs(kind, cls):
    (model, x), (plain, _) = quadratic(), quadratic()
    groups = [{"params": [plain.weight], "weight_decay": 0.1}, {"params": [plain.bias], "weight_decay": 0.0}]
    run_steps(build_optimizers(adam(kind, lr=0.01, weight_decay=0.1, betas=[0.8, 0.9], eps=1e-3), model), model, x, 3)
    run_steps([cls(groups, lr=0.01, betas=(0.8, 0.9), eps=1e-3)], plain, x, 3)
    assert torch.equal(model.weight, plain.weight)
    assert torch.equal(model.bias, plain.bias)


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = with_hypernet(STATIC, small_wrn())
    names = {id(p): n for n, p in model.named_parameters()}
    matrices, rest = build_optimizers(muon(), model)
    assert isinstance(matrices, torch.optim.Muon)
    held = {names[id(p)] for group in matrices.param_groups for p in group["params"]}
    assert held == {"hypernet.generators.3x3.w_out", "target.fc.weight"}
    assert sum(len(g["params"]) for g in rest.param_groups) == len(names) - len(held)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_step_and_resume_from_their_state(kind):
    torch.manual_seed(0)
    cfg, x, y = OPTIMIZERS[kind], torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])

    def steps(model: nn.Module, optimizers, n: int) -> None:
        for _ in range(n):
            nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

    model = with_hypernet(STATIC, small_wrn())
    start = [p.detach().clone() for p in model.parameters()]
    optimizers = build_optimizers(cfg, model)
    steps(model, optimizers, 2)
    # a norm's scale right behind a zero bias can stand still; the matrices cannot
    assert all(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True) if b.ndim > 1)

    twin = copy.deepcopy(model)
    resumed = build_optimizers(cfg, twin)
    for optimizer, saved in zip(resumed, optimizers, strict=True):
        optimizer.load_state_dict(copy.deepcopy(saved.state_dict()))
    set_learning_rate(optimizers, 0.5)
    set_learning_rate(resumed, 0.5)
    steps(model, optimizers, 2)
    steps(twin, resumed, 2)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_schedule_scales_every_peak():
    optimizers = build_optimizers(muon(lr=0.4, adamw_lr=0.02), with_hypernet(STATIC, cnn()))
    for factor in (0.5, 0.25):  # of the peak, not of what was set before
        set_learning_rate(optimizers, factor)
        rates = [{group["lr"] for group in optimizer.param_groups} for optimizer in optimizers]
        assert rates == [{0.4 * factor}, {0.02 * factor}]


def test_muon_without_matrices_is_refused():
    with pytest.raises(UserError, match="no matrices.*optim=adamw"):
        build_optimizers(muon(decay_on=[]), cnn())


@pytest.mark.parametrize(
    "overrides",
    [
        ["optim=sgd", "optim.momentum=0"],  # with nesterov=true, which is the default
        ["optim=sgd", "optim.momentum=-1"],
        ["optim=adam", "optim.betas=[0.9]"],
        ["optim=adam", "optim.betas=[0.9,1.5]"],
        ["optim=adam", "optim.eps=-1"],
        ["optim=muon", "optim.adamw_lr=-1"],
        ["optim=muon", "optim.momentum=-1"],
        ["optim=muon", "optim.betas=[2,0.9]"],
    ],
    ids=lambda o: " ".join(o),
)
def test_values_that_torchs_optimizers_refuse_are_a_one_line_error(overrides):
    with pytest.raises(UserError, match="optim") as error:
        build_optimizers(compose_config(overrides).optim, nn.Linear(2, 2))
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- schedules


@cache
def experiment(name: str) -> Config:
    return compose_config([f"experiment=ha2016/{name}"])


TABLE_8 = [(28_000, 0.1), (56_000, 0.02), (84_000, 0.004), (112_000, 0.0008), (140_000, 0.00016)]
TABLE_9 = [(168_000, 0.002), (336_000, 0.001), (504_000, 0.0002), (672_000, 0.00005)]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("cifar10_wrn40_1", TABLE_8),
        ("cifar10_wrn40_2", TABLE_8),
        ("cifar10_hyperresnet40_1", TABLE_9),
        ("cifar10_hyperresnet40_2", TABLE_9),
    ],
)
def test_experiments_follow_the_papers_tables_8_and_9(name, table):
    config = experiment(name)
    total = table[-1][0]
    assert config.trainer.max_steps == total
    start = 0
    for end, rate in table:
        for step in (start, (start + end) // 2, end - 1):
            assert config.optim.lr * lr_factor(config.schedule, step, total) == pytest.approx(rate, rel=1e-12)
        start = end


@pytest.mark.parametrize("name", ["mnist_cnn", "mnist_hypercnn"])
def test_mnist_experiments_keep_the_papers_learning_rate(name):
    config = experiment(name)
    assert [config.optim.lr * lr_factor(config.schedule, step, 2750) for step in (0, 1000, 2749)] == [1e-3] * 3


SCHEDULES = {
    "constant": ConstantSchedule("constant", 5),
    "cosine": CosineSchedule("cosine", 5, 0.1),
    "one_cycle": OneCycleSchedule("one_cycle", 5, 0.25, 0.1, 0.0),
    "multi_step": MultiStepSchedule("multi_step", 5, [50, 75], [0.1, 0.01]),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_rises_linearly_to_the_schedule(kind):
    schedule = SCHEDULES[kind]
    factors = [lr_factor(schedule, step, 105) for step in range(5)]
    assert factors == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert lr_factor(schedule, 5, 105) == pytest.approx(0.1 if kind == "one_cycle" else 1.0)


@pytest.mark.parametrize("warmup", [0, 20])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_starts_at_the_peak_and_ends_at_the_final_factor(warmup, final):
    schedule = CosineSchedule("cosine", warmup, final)
    total = warmup + 100
    factors = [lr_factor(schedule, step, total) for step in range(warmup, total + 1)]
    assert factors[0] == 1
    assert factors[50] == pytest.approx((1 + final) / 2)
    assert factors[25] == pytest.approx(final + (1 - final) * (1 + 0.5**0.5) / 2)
    assert factors[100] == pytest.approx(final)  # where the step after the last would be
    assert factors[99] - final < 1e-3
    assert factors == sorted(factors, reverse=True)
    assert lr_factor(schedule, total + 50, total) == pytest.approx(final)


def test_one_cycle_rises_and_falls_in_straight_lines():
    schedule = OneCycleSchedule("one_cycle", 0, 0.25, 0.1, 0.02)
    factors = [lr_factor(schedule, step, 400) for step in range(401)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[50] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(1.0) == max(factors)
    assert factors[250] == pytest.approx(0.51)
    assert factors[400] == pytest.approx(0.02)


def test_milestones_below_one_are_fractions_of_the_training_length():
    schedule = MultiStepSchedule("multi_step", 0, [0.5, 0.75], [0.1, 0.01])
    for total in (8, 1000):
        factors = [lr_factor(schedule, step, total) for step in range(total)]
        assert factors == [1.0] * (total // 2) + [0.1] * (total // 4) + [0.01] * (total // 4)


def test_milestones_from_one_on_are_steps():
    schedule = MultiStepSchedule("multi_step", 0, [1, 3], [0.5, 0.25])
    assert [lr_factor(schedule, step, 5) for step in range(5)] == [1.0, 0.5, 0.5, 0.25, 0.25]


# ---------------------------------------------------------------- the penalty on generated kernels


class DirectKernels(nn.Module):
    """A hypernet that holds the kernels themselves: what generated_l2 should do is plain on it."""

    def __init__(self, kernels: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(kernels)
        self.kernels = nn.ParameterList(kernels.values())

    def forward(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.kernels, strict=True))


X, Y = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)


def train(model: nn.Module, cfg: OptimConfig, steps: int = 3) -> nn.Module:
    loss = ClassificationLoss(model, generated_l2=cfg.generated_l2)
    optimizers = build_optimizers(cfg, model)
    for _ in range(steps):
        loss(X, Y)[0].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return model


def test_generated_l2_does_to_kernels_what_weight_decay_does_to_direct_ones():
    torch.manual_seed(0)
    direct = cnn()
    target = copy.deepcopy(direct)
    kernels = {"conv2.weight": target.conv2.weight.detach().clone()}
    model = HyperModel(target, DirectKernels(kernels), ["conv2.weight"])

    c = 0.05
    train(model, sgd(generated_l2=c, decay_on=[]))
    free = copy.deepcopy(direct)
    for name, parameter in direct.named_parameters():
        if name != "conv2.weight":
            parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(
        [
            {"params": [free.conv2.weight], "weight_decay": c},
            {"params": [p for n, p in free.named_parameters() if n != "conv2.weight"], "weight_decay": 0.0},
        ],
        lr=0.1,
        momentum=0.9,
        nesterov=True,
    )
    for _ in range(3):
        ClassificationLoss(free)(X, Y)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    torch.testing.assert_close(model.hypernet.kernels[0], free.conv2.weight)
    torch.testing.assert_close(model.target.fc.weight, free.fc.weight)
    without = train(HyperModel(copy.deepcopy(direct), DirectKernels(kernels), ["conv2.weight"]), sgd(decay_on=[]))
    assert not torch.allclose(without.get_submodule("hypernet").kernels[0], free.conv2.weight, atol=1e-4)


def kernel_gradients(model: HyperModel, generated_l2: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the kernels of one step and the loss's gradient with respect to each."""
    kernels: dict[str, Tensor] = {}

    def keep(_module, _args, made):
        for weight in made.values():
            weight.retain_grad()
        kernels.update(made)

    handle = model.hypernet.register_forward_hook(keep)
    ClassificationLoss(model, generated_l2=generated_l2)(X, Y)[0].backward()
    handle.remove()
    return kernels, {name: kernel.grad for name, kernel in kernels.items()}


def test_the_penalty_pulls_every_generated_kernel_by_c_times_itself():
    model = with_hypernet(STATIC, cnn())
    kernels, with_penalty = kernel_gradients(model, 0.5)
    _, without = kernel_gradients(model, 0.0)
    assert kernels.keys() == {"conv2.weight"}
    for name, kernel in kernels.items():
        torch.testing.assert_close(with_penalty[name] - without[name], 0.5 * kernel)


def test_weight_decay_on_the_hypernets_own_parameters_is_another_thing():
    """The gradient of the penalty is no multiple of any of the hypernet's parameters."""
    model = with_hypernet(STATIC, cnn())
    penalty = 0.5 * sum(w.square().sum() for w in model.weights().values())
    parameters = dict(model.hypernet.named_parameters())
    for name, gradient in zip(parameters, torch.autograd.grad(penalty, list(parameters.values())), strict=True):
        assert gradient.any(), name
        cosine = torch.cosine_similarity(gradient.flatten(), parameters[name].flatten(), dim=0)
        assert abs(cosine) < 0.99, name


def test_the_penalty_is_reported_apart_from_the_cross_entropy():
    model = with_hypernet(STATIC, cnn())
    loss, stats = ClassificationLoss(model, generated_l2=2.0)(X, Y)
    plain, plain_stats = ClassificationLoss(model)(X, Y)
    squares = sum(w.square().sum() for w in model.weights().values())
    torch.testing.assert_close(stats["generated_l2"], squares.detach())
    torch.testing.assert_close(loss, plain + squares)
    torch.testing.assert_close(stats["loss"], plain_stats["loss"])
    assert "generated_l2" not in plain_stats
    assert not any(value.requires_grad for value in stats.values())


def test_whether_a_model_has_a_hypernet_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(classification, "as_hypernetized", lambda model: asked.append(model) or model)
    loss = ClassificationLoss(with_hypernet(STATIC, cnn()), generated_l2=2.0)
    for _ in range(3):
        assert "generated_l2" in loss(X, Y)[1]
    assert len(asked) == 1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_spreads_probability_over_all_classes(smoothing):
    model = cnn()
    log_p = model(X).log_softmax(1)
    wanted = torch.full_like(log_p, smoothing / 10)
    wanted[torch.arange(8), Y] += 1 - smoothing
    loss, stats = ClassificationLoss(model, label_smoothing=smoothing)(X, Y)
    torch.testing.assert_close(loss, -(wanted * log_p).sum(1).mean())
    assert stats["accuracy"] == (log_p.argmax(1) == Y).float().mean()
