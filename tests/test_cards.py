"""Each strategy has a card, made from its docstring, and what pins it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.errors import SetupError
from promptlab.strategies import STRATEGIES, every
from promptlab.strategies.cards import OPTIONAL, PARTS, card

ROOT = Path(__file__).parents[1]
UNPUBLISHED = ("zero-shot", "structured")  # no paper's


@pytest.mark.parametrize("name", list(every()))
def test_every_strategy_has_a_card_with_all_its_parts(name):
    made = card(name, every()[name])
    assert set(made.parts) >= set(PARTS) - {OPTIONAL}
    assert all(made.parts.values())
    assert name in UNPUBLISHED or re.search(r"\barXiv \d{4}\.\d{5}", made.about)
    assert made.pins
    for pin in made.pins:
        assert (ROOT / pin).exists(), pin


def test_a_card_is_a_page():
    said = str(card("self-consistency", STRATEGIES["self-consistency"]))
    assert said.startswith("self-consistency\n\nWang et al. 2022 (arXiv 2203.11171)")
    assert "Ties:      more votes" in said
    assert "n = 10, temperature = 0.7" in said
    assert max(map(len, said.split("\n"))) <= 120


def test_a_card_is_printed_for_a_strategy_that_needs_more_than_a_question_too(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["card", "program-of-thoughts"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith("program-of-thoughts\n\nChen et al. 2022")
    assert "python, prompt" in said


def test_what_follows_the_parts_belongs_to_what_is_said_of_it():
    async def told(question):
        """Somebody 2030.

        Prompt: the question.
        Stop: never.
        Parse: by eye.
        Hyper-parameters: none
            that matter.
        Ties: none.
        Cost: 1 call.
        Pinned by: `tests/test_cards.py`; the weather.

        It is new.
        """

    made = card("told", told)
    assert made.about == "Somebody 2030.\n\nIt is new."
    assert made.parts["Hyper-parameters"] == "none that matter."
    assert made.pins == ["tests/test_cards.py"]


def test_a_docstring_without_a_part_or_out_of_order_makes_no_card():
    async def hasty(question):
        """Somebody 2030 (arXiv 3001.00001).

        Prompt: the question.
        Parse: by eye.
        """

    with pytest.raises(SetupError, match="hasty has the parts Prompt, Parse; a card takes Prompt, Stop"):
        card("hasty", hasty)
