"""CIFAR-10, table 2 of Ha et al. 2016: Wide ResNets 40-1 and 40-2, with 36 kernels generated and learned directly.

    python scripts/studies/cifar10.py [--budget small|paper] [--dry-run] [outputs=DIR] [KEY=VALUE ...]

small: 15 epochs each; took 47 minutes (40-1) and 98 to 101 (40-2) a model on one thread of a busy 2-core CPU.
paper: 400 and 1,900 epochs, three seeds. data.verify=false takes a copy of CIFAR-10 with other checksums.
"""

from _study import study

NAMES = "cifar10_wrn40_1", "cifar10_hyperresnet40_1", "cifar10_wrn40_2", "cifar10_hyperresnet40_2"
EXPERIMENTS = f"experiment={','.join(f'ha2016/{name}' for name in NAMES)}"

# 351 steps are an epoch. The paper lowers the learning rate for the first time after 80 epochs (hyper: 480), so that
# a short training would end at the highest: one_cycle comes down to nothing at whatever length, from the same peak.
SMALL = [f"{EXPERIMENTS} trainer.max_steps={15 * 351} schedule=one_cycle seed=0"]
PAPER = [f"{EXPERIMENTS} seed=0,1,2"]

if __name__ == "__main__":
    raise SystemExit(study(__doc__, "cifar10", small=SMALL, paper=PAPER))
