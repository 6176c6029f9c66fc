"""Numbers as the report and the decision write them."""

from __future__ import annotations

from promptlab.compare.statistics import Interval

FAMILY_NAMES = {"prompting": "prompting", "fine-tuning": "fine-tuning", "baseline": "the baseline"}


def number(x: float, sign: bool = False) -> str:
    """Two decimals, with a true minus and no negative zero; three where two would hide which side of zero it is on."""
    text = f"{abs(x):.3f}" if 0.0005 <= abs(x) < 0.005 else f"{abs(x):.2f}"
    mark = "" if float(text) == 0 else "−" if x < 0 else "+" if sign else ""
    return mark + text


def plain(x: float) -> str:
    """A number that somebody gave, as they would write it: "10,000", "0.5"."""
    return f"{x:,.12g}"


def shown(interval: Interval, sign: bool = False) -> str:
    """An estimate with its interval: "0.62 [0.55, 0.69]", or "+0.14 [0.08, 0.20]"."""
    return f"{number(interval.value, sign)} [{number(interval.low)}, {number(interval.high)}]"


def counted(n: int, what: str) -> str:
    """How many of something that has a regular plural: "1 test item", "1,200 test items"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def labels(n: int) -> str:
    """How many labels, in words that start a clause."""
    return counted(n, "label")


def sentence_of(clause: str) -> str:
    """A clause with a capital and a full stop."""
    return f"{clause[0].upper()}{clause[1:]}."


def share(x: float) -> str:
    """A share in per cent, so that a small one does not read as none."""
    return "0 %" if x == 0 else "< 0.1 %" if x < 0.001 else f"{100 * x:.1f} %"


def p_shown(x: float) -> str:
    """A p-value in a table: three decimals."""
    return "< 0.001" if x < 0.001 else f"{x:.3f}"
