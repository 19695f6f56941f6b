"""PTB by characters, table 3 of Ha et al. 2016: LSTMs of 1000 units, plain and hyper, with and without layer norm.

    python scripts/studies/ptb_char.py [--budget small|paper] [--dry-run] [outputs=DIR] [KEY=VALUE ...]

It ends in the saturation study, too: hidden activations and gates of the four over the test text.

small: 4 epochs each; took 56 to 72 minutes a model on one thread of a busy 2-core CPU. paper: 100 epochs, three seeds.
"""

from _study import study

NAMES = "ptb_lstm1000", "ptb_lnlstm1000", "ptb_hyperlstm1000", "ptb_lnhyperlstm1000"
EXPERIMENTS = f"experiment={','.join(f'ha2016/{name}' for name in NAMES)}"

# The paper's learning rate, 0.001, never falls; in 4 epochs it has to. Merity et al. 2018 begin with 0.002 for LSTMs of
# this width on this text, and the first quarter of one_cycle rises to it.
SMALL = [f"{EXPERIMENTS} trainer.epochs=4 schedule=one_cycle optim.lr=2e-3 seed=0"]
PAPER = [f"{EXPERIMENTS} seed=0,1,2"]

SATURATION = ["--split", "test", "--symbols", "5000"]

if __name__ == "__main__":
    raise SystemExit(study(__doc__, "ptb_char", small=SMALL, paper=PAPER, analyze=SATURATION))
