"""A comparison of two logs as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from promptlab.compare.logs.comparing import Comparison, p_value
from promptlab.compare.logs.judging import Judging
from promptlab.compare.markdown import line, path_end, table
from promptlab.compare.statistics import Interval
from promptlab.compare.wording import number, share, shown

MOST_LISTED = 10  # of either kind; a CSV has all


def as_markdown(found: Comparison, most_listed: int = MOST_LISTED) -> str:
    """The verdict first, then what it rests on. Plain enough to be read in a terminal too."""
    parts = [f"**{line(found.verdict)}**", *_sides(found), *_counts(found)]
    if found.notes:
        parts.append("\n".join(f"- {line(note)}" for note in found.notes))
    if found.classes:
        rows = [
            (one.target, f"{one.n:,}", *map(number, (one.a, one.b)), number(one.a - one.b, sign=True))
            for one in found.classes
        ]
        parts.append("By target:\n\n" + table(("target", "n", "A", "B", "A − B"), rows))
    parts += _discordant(found, most_listed)
    return "\n\n".join(parts) + "\n"


def _sides(found: Comparison) -> Iterator[str]:
    rows = [
        ("A", found.name_a, path_end(str(found.a.path)), found.a.tool, found.metric_a, shown(found.score_a)),
        ("B", found.name_b, path_end(str(found.b.path)), found.b.tool, found.metric_b, shown(found.score_b)),
    ]
    yield table(("", "name", "log", "of", "score", "mean"), rows)


def _counts(found: Comparison) -> Iterator[str]:
    what = "groups" if found.matched.n_clusters < len(found.matched.ids) else "items"
    rows = [
        ("A − B", shown(found.difference, sign=True)),
        ("how the interval was made", found.difference.method),
        (f"{what} on which A is ahead, B is, neither", f"{found.wins:,}, {found.losses:,}, {found.ties:,}"),
        (f"p, {found.test}", p_value(found.p).removeprefix("= ")),
        ("smallest difference seen with 80 % power", number(found.detectable)),
    ]
    if found.if_missing_are_wrong is not None:
        lowest = number(found.matched.lowest)
        rows.append((f"A − B if missing items count as {lowest}", shown(found.if_missing_are_wrong, sign=True)))
    yield table(("", ""), rows)
    if found.judging:
        yield table(("the judge", ""), list(_judging(found.judging, found.score_a)))


def _judging(found: Judging, won: Interval) -> Iterator[tuple[str, str]]:
    """Who judged, the win rate, how steady the judge was, and whether people agree with it."""
    bias = found.bias
    yield "model", found.judge
    yield "criterion", found.criterion
    yield "win rate of A, ties counting half", shown(won)
    yield "pairs judged both ways round; equal or missing answers", f"{bias.judged:,}; {found.same:,}"
    if bias.judged:
        yield "contradicted itself when they were swapped (a tie)", share(bias.contradicted / bias.judged)
        yield "preferences for what was read first (50 % is fair)", share(bias.first)
    if found.unread:
        yield "replies that were no verdict (a tie)", f"{found.unread:,}"
    if found.kappa is not None:
        yield f"Cohen's κ with people, n = {found.people:,}", shown(found.kappa)
    elif found.people:
        yield f"Cohen's κ with people, n = {found.people:,}", "not defined: both always say the same"
    else:
        yield "agreement with people", "not known: give --people"


def _discordant(found: Comparison, most: int) -> Iterator[str]:
    for head, ahead in (("A is ahead", True), ("B is ahead", False)):
        items = [one for one in found.discordant if (one.a > one.b) == ahead]
        if items and most:
            rows = [
                (one.item, one.target or "", _said(one.answer_a), _said(one.answer_b), number(one.a), number(one.b))
                for one in items[:most]
            ]
            left = f", {len(items) - most:,} more with --export csv" if len(items) > most else ""
            heads = ("item", "target", "A answered", "B answered", "A", "B")
            yield f"{head} on {len(items):,} items{left}:\n\n{table(heads, rows)}"


def _said(answer: str | None) -> str:
    return "(no answer)" if answer is None else answer


def as_csv(found: Comparison) -> str:
    """A row for each shared item: the mean scores over its repeats, and what was answered at first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["item", "group", "target", "answer_a", "answer_b", "score_a", "score_b"])
    means = zip(found.matched.a.mean(axis=0).tolist(), found.matched.b.mean(axis=0).tolist(), strict=True)
    for one, other, (a, b) in zip(found.matched.samples_a, found.matched.samples_b, means, strict=True):
        writer.writerow([one.item, one.group, one.target, one.answer, other.answer, repr(a), repr(b)])
    return out.getvalue()
