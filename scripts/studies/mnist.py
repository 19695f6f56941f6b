"""MNIST, section 4.1 of Ha et al. 2016: a kernel of a small CNN generated and learned directly, three seeds.

    python scripts/studies/mnist.py [--budget small|paper] [--dry-run] [outputs=DIR] [KEY=VALUE ...]

Both budgets are the full length, 50 epochs; took 11 to 40 minutes a run on one thread of a busy 2-core CPU.
"""

from _study import study

SMALL = PAPER = ["experiment=ha2016/mnist_cnn,ha2016/mnist_hypercnn seed=0,1,2"]

if __name__ == "__main__":
    raise SystemExit(study(__doc__, "mnist", small=SMALL, paper=PAPER))
