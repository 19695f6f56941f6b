"""How good translations are: BLEU and chrF by sacrebleu, so that they can be compared with anybody's."""

from __future__ import annotations

from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


def figures_of(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return {"bleu", "chrf"} of a corpus, both from 0 to 100, and "exact", the part of the translations that are their
    reference to the letter, from 0 to 1. Sentences as people write them: sacrebleu parts the words (13a)."""
    same = sum(a == b for a, b in zip(translations, references, strict=True))
    return {
        "bleu": BLEU().corpus_score(translations, [references]).score,
        "chrf": CHRF().corpus_score(translations, [references]).score,
        "exact": same / len(references),
    }


def signatures() -> dict[str, str]:
    """Return how the figures are reckoned, in sacrebleu's words: {"bleu_signature", "chrf_signature"}."""
    found = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.corpus_score(["a"], [["a"]])  # how many references there are it knows from these
        found[f"{name}_signature"] = str(metric.get_signature())
    return found
