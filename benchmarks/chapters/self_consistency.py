"""Self-consistency: 23 × 47

A chain of thought may go wrong anywhere. Several are sampled, and the answer that most of them come to is kept (Wang
et al. 2022, arXiv 2203.11171):

    answer = argmax over a of the number of chains i with answer aᵢ = a

For 23 × 47 five chains came to 1081, 1081, 981, 1081 and 1081: the vote is 1081, by four to one, and right. Wrong
chains must disagree with each other for this to help: one error that all of them make wins the vote.

**On the bundled model.** It samples chains for the same product, which its training held back, and for others that it
held back. The curve is the share of right answers by the number of chains that vote.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from behaviours.figures import share
from harness import row
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from chapters.shown import BLUE, GREY, ORANGE, Shown, panels, stated
from promptlab import replay, run
from promptlab.backends.tiny import Tiny
from promptlab.strategies import chain_of_thought, self_consistency
from promptlab.strategies.self_consistency import majority
from promptlab.tiny.data.multiplication import factors, product
from promptlab.types import Answer

FIVE = ("1081", "1081", "981", "1081", "1081")
LONGEST = 120  # tokens of a chain
NONE = "no answer"


def worked() -> Shown:
    chains = [f"20 * 47 = 940. 3 * 47 = {int(each) - 940}. The answer is {each}." for each in FIVE]
    voted = replay(self_consistency("23 * 47 = ?", n=5), chains)
    return Shown(
        [
            stated("vote of 1081, 1081, 981, 1081, 1081", float(majority([Answer(a) for a in FIVE]).value), "", "1081"),
            stated("the same as five sampled chains", float(voted.value), "", "1081"),
            stated("votes for it", voted.votes["1081"], "votes", "4"),
            stated("lead over the next, as a share", voted.margin, "share", "0.6"),
        ]
    )


def measure(tiny: Tiny, quick: bool) -> Shown:
    n, most = (12, 8) if quick else (60, 16)
    of_lecture = run(self_consistency("23 * 47 = ?", n=20 if quick else 100, max_tokens=LONGEST), tiny)
    several = [
        product(Random(f"lecture/product/{i}"), *factors(Random(f"lecture/factors/{i}"), kept=True)) for i in range(n)
    ]
    voted = run([self_consistency(p.question, n=most, max_tokens=LONGEST) for p in several], tiny)
    greedy = run([chain_of_thought(p.question, max_tokens=LONGEST) for p in several], tiny)
    by_size = {}
    for k in (k for k in (1, 2, 4, 8, 16) if k <= most):
        right = [majority(v.trace[:k]).value == p.answer for v, p in zip(voted, several, strict=True)]
        by_size[k] = share(f"products held back, votes of {k}", right)
    one = share("the same, a greedy chain", [a.value == p.answer for a, p in zip(greedy, several, strict=True)])
    votes = Counter(str(a.value) if a.value is not None else NONE for a in of_lecture.trace)
    right_ones, note = votes["1081"] / votes.total(), f"the vote: {of_lecture.value}"
    first = row("23 × 47: share of chains that come to 1081", right_ones, "share", n=votes.total(), note=note)
    return Shown([first, *by_size.values(), one], drawn(votes, by_size, one))


def drawn(votes: Counter[str], by_size: dict[int, dict[str, Any]], one: dict[str, Any]) -> Figure:
    """The votes for 23 × 47, and right answers by the number of chains that vote."""
    figure, (left, right) = panels(4.6, 4.0)
    top = votes.most_common(8)[::-1]
    colours = [BLUE if name == "1081" else GREY for name, _ in top]
    left.barh(range(len(top)), [count for _, count in top], color=colours)
    left.set_yticks(range(len(top)), [name if len(name) < 14 else f"{name[:12]}…" for name, _ in top], fontsize=9)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(title=f"{votes.total()} chains for 23 × 47", xlabel="votes (blue is right)")
    found = list(by_size.values())
    shares = [each["value"] for each in found]
    interval = [[each["value"] - each["low"] for each in found], [each["high"] - each["value"] for each in found]]
    right.errorbar(range(len(found)), shares, interval, color=BLUE, marker="o", ms=4, capsize=3, label="vote")
    right.axhline(one["value"], color=ORANGE, ls="--", lw=1, label="one greedy chain")
    right.legend(frameon=False, fontsize=9)
    right.set_xticks(range(len(found)), list(by_size))
    right.set(title=f"{one['n']} products never taught", xlabel="chains that vote", ylabel="right", ylim=(0, 1.02))
    return figure
