"""Handwriting, section 4.5 and table 5 of Ha et al. 2016: LSTMs with a mixture density output, plain and hyper.

    python scripts/studies/handwriting.py [--budget small|paper] [--dry-run] [outputs=DIR] [KEY=VALUE ...]

small: the drawings of omniglot_strokes, 256 units and 1,500 steps, three seeds; the lines of iam_online, 400 units, one
seed, as many steps as about an hour of 2 cores allows a model. paper: table 5, 50 epochs of iam_online, three seeds.

iam_online is there after registration only: hyperrun data iam_online says where its files go.
"""

from _study import study

CELLS = "lstm", "lnlstm", "hyperlstm", "lnhyperlstm"
PLAIN = "lstm900_plain", "lstm400x3_plain"
SIZES = "lstm900", "lstm1000", "lstm400x3", "lstm650x2", "lnlstm900", "lnlstm1000", "lnhyperlstm900", "hyperlstm900"

# The paper's learning rate, 0.0001, is meant for a much longer training: in so few steps it hardly leaves the start.
SHORT = "optim.lr=1e-3 schedule=one_cycle"
SMALL = [
    f"model={','.join(CELLS)} data=omniglot_strokes target.hidden_size=256 target.dropout_in=0 trainer.batch_size=32 "
    f"trainer.clip_norm=5.0 trainer.max_steps=1500 {SHORT} seed=0,1,2",
    f"experiment={','.join(f'ha2016/iam_{cell}900' for cell in CELLS)} target.hidden_size=400 trainer.max_steps=800 "
    f"trainer.eval_every=200 {SHORT} seed=0",
]
PAPER = [f"experiment={','.join(f'ha2016/iam_{name}' for name in (*PLAIN, *SIZES))} seed=0,1,2"]

if __name__ == "__main__":
    raise SystemExit(study(__doc__, "iam_online", small=SMALL, paper=PAPER))
