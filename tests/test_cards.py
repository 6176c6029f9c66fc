"""Each strategy has a card, made from its docstring, and what pins it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from promptlab.errors import SetupError
from promptlab.strategies import (
    STRATEGIES,
    entailed_label,
    few_shot,
    likeliest_label,
    program_of_thoughts,
    structured,
)
from promptlab.strategies.cards import PARTS, card

ROOT = Path(__file__).parents[1]
OTHERS = (entailed_label, few_shot, likeliest_label, program_of_thoughts, structured)
ALL = {**STRATEGIES, **{strategy.__name__: strategy for strategy in OTHERS}}


@pytest.mark.parametrize("name", ALL)
def test_every_strategy_has_a_card_with_all_its_parts(name):
    made = card(name, ALL[name])
    assert tuple(made.parts) == PARTS
    assert all(made.parts.values())
    assert name in ("zero-shot", "structured") or re.search(r"\barXiv \d{4}\.\d{5}", made.about)
    for pin in made.parts["Pinned by"].split("; "):
        assert (ROOT / pin).is_file(), pin


def test_a_card_is_a_page():
    said = str(card("self-consistency", STRATEGIES["self-consistency"]))
    assert said.startswith("self-consistency\n\nWang et al. 2022 (arXiv 2203.11171)")
    assert "Ties:      more votes" in said
    assert "n = 10, temperature = 0.7" in said
    assert max(map(len, said.split("\n"))) <= 120


def test_a_docstring_without_a_part_or_out_of_order_makes_no_card():
    async def hasty(question):
        """Somebody 2030 (arXiv 3001.00001).

        Prompt: the question.
        Parse: by eye.
        """

    with pytest.raises(SetupError, match="hasty has the parts Prompt, Parse; a card takes Prompt, Stop"):
        card("hasty", hasty)
