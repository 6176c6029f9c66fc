"""The votes of self-consistency: a bar a value."""

from __future__ import annotations

from html import escape

from promptlab.trace.redacting import Redactor
from promptlab.types import Answer


def votes_drawn(answer: Answer, redactor: Redactor) -> str:
    """The values voted for, most votes first, each with a bar as long as its share of them."""
    if not answer.votes:
        return ""
    total = sum(answer.votes.values())
    rows = []
    for value, count in answer.votes.items():
        text = escape(redactor.text(str(value)))
        won = ' class="won"' if value == answer.value or str(value) == str(answer.value) else ""
        share = 100 * count / total if total else 0.0
        rows.append(
            f'<tr{won}><th scope="row">{text}</th><td>{count:.3g}</td><td>{share:.0f} %</td>'
            f'<td class="wide"><span class="vote" style="width:{share:.1f}%"></span></td></tr>'
        )
    lead = "" if answer.margin is None else f", the winner {answer.margin:.0%} of all ahead of the next"
    head = f"<h2>Votes</h2><p class='note'>{total:.3g} in all{lead}.</p>"
    return f'{head}<div class="wide-table"><table class="votes"><tbody>{"".join(rows)}</tbody></table></div>'
