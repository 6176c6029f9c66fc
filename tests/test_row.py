"""A reply in the making: tokens that were written in one go count as if they had been written one by one."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from waves import request

from promptlab.tiny.engine.row import Row
from promptlab.tiny.tokenizer import EOS

NAN = float("nan")


def begun(room: int, stop: tuple[str, ...]) -> Row:
    return Row((1,), request("", stop=stop), np.zeros(room))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([-0.5, -2.0, NAN])), min_size=1, max_size=12),
    st.integers(1, 12),
    st.lists(st.text("abcd ", min_size=1, max_size=3), max_size=2).map(tuple),
    st.integers(1, 12),
)
@example([(5, -0.5), (EOS, -0.5), (5, NAN)], 12, (), 12)  # what is no number comes after the end
@example([(5, -0.5), (EOS, NAN)], 12, (), 12)  # or is the end itself
@example([(5, -0.5), (EOS, -0.5)], 1, (), 12)  # there is no room for the end
@example([(5, -0.5), (6, NAN)], 1, (), 12)
def test_tokens_in_one_go_are_as_one_by_one(tiny_tokenizer, said, room, stop, at_once):
    together, single = begun(room, stop), begun(room, stop)
    for start in range(0, len(said), at_once):
        if not together.done:
            tokens, log_p = zip(*said[start : start + at_once], strict=True)
            together.extend([*tokens], [*log_p], tiny_tokenizer)
    for token, p in said:
        if not single.done:
            single.extend([token], [p], tiny_tokenizer)
    assert (together.finish, together.ids, together.logprobs) == (single.finish, single.ids, single.logprobs)
    assert not any(map(math.isnan, together.logprobs))
    assert EOS not in together.ids
    assert len(together.ids) <= room
