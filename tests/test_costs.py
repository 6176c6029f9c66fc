"""Break-even: the published figures of one paper, and what holds for any two bills."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab.compare.costs import Bill, break_even, few_shot, few_shot_cached, fine_tuned
from promptlab.errors import SetupError

# Liu et al. 2022: T0 of 11 billion (encoder-decoder, so half are passed), 1,000 steps of 8 examples of 103 tokens;
# GPT-3 of 175 billion with 41 demonstrations of 98 tokens before each query.
T_FEW = fine_tuned(11e9 / 2, trained_tokens=1_000 * 8 * 103, query=103)
GPT_3 = few_shot(175e9, prefix=41 * 98, query=103)

amounts = st.floats(0, 1e6)
bills = st.builds(Bill, amounts, amounts)


def test_the_bills_of_t_few_and_gpt_3_are_the_papers():
    assert T_FEW.once == pytest.approx(2.72e16, rel=0.005)
    assert T_FEW.query == pytest.approx(1.13e12, rel=0.005)
    assert (GPT_3.once, GPT_3.query) == (0, pytest.approx(1.44e15, rel=0.005))


def test_t_few_pays_from_19_queries_on_and_from_738_where_the_prompt_is_cached():
    assert break_even(GPT_3, T_FEW) == pytest.approx(18.9, abs=0.05)
    assert break_even(few_shot_cached(175e9, 41 * 98, 103), T_FEW) == pytest.approx(738, abs=0.5)
    assert break_even(few_shot(11e9 / 2, 41 * 98, 103), T_FEW) == pytest.approx(615, abs=0.5)


def test_of_one_model_with_its_prompt_cached_training_never_pays_in_flops():
    assert break_even(few_shot_cached(11e9 / 2, 41 * 98, 103), T_FEW) is None


@given(bills, bills)
def test_at_break_even_both_cost_the_same_and_past_it_the_other_costs_less(now, instead):
    n = break_even(now, instead)
    if n is None:
        assert not instead.total(1e12) < now.total(1e12) or instead.query >= now.query
    else:
        assert instead.total(n) <= now.total(n) * (1 + 1e-9) + 1e-6
        assert instead.total(2 * n + 1) <= now.total(2 * n + 1) * (1 + 1e-9)


@given(bills, bills, bills)
def test_what_both_pay_changes_nothing(now, instead, shared):
    before, after = break_even(now, instead), break_even(now + shared, instead + shared)
    if before is not None and after is not None and now.query - instead.query > 1:
        assert after == pytest.approx(before, rel=1e-3, abs=1e-3)


def test_a_bill_that_is_cheaper_from_the_start_breaks_even_at_once_and_one_that_never_is_does_not():
    assert break_even(Bill(10, 2), Bill(5, 1)) == 0
    assert break_even(Bill(10, 1), Bill(5, 1)) == 0
    assert break_even(Bill(5, 1), Bill(10, 1)) is None
    assert break_even(Bill(5, 1), Bill(0, 2)) is None


@pytest.mark.parametrize("parts", [(-1, 0), (0, -1), (float("nan"), 0)])
def test_a_bill_has_no_negative_parts(parts):
    with pytest.raises(SetupError, match="no negative parts"):
        Bill(*parts)
