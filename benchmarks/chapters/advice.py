"""What the last chapters are about: public-health advice, asked for in a few ways, said politely or bluntly."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from promptlab.backends.tiny import Tiny
from promptlab.tiny.data.chat import user
from promptlab.tiny.data.style import ADVICE, ASKS, advising, phrased
from promptlab.tiny.pairs import Pair
from promptlab.tiny.sft import sft
from promptlab.tiny.train import Recipe


@lru_cache(maxsize=1)  # the last chapters all begin with it
def taught(tiny: Tiny, quick: bool) -> Tiny:
    """The model after supervised fine-tuning on advice of both manners: what preferences are learnt from."""
    chats = [advising(Random(f"lecture/advice/{i}"), 0) for i in range(480)]
    recipe = Recipe(30 if quick else 160, lr=2e-3, warmup=5, weight_decay=0.01)
    return Tiny.of(sft(tiny.model, tiny.tokenizer, chats, recipe=recipe), tiny.tokenizer)


def polite_over_blunt(n: int, seed: int) -> list[Pair]:
    """Pairs of the same advice, the polite way preferred; plain words and jargon come on both sides."""
    found = []
    for i in range(n):
        rng = Random(f"lecture/pairs/{seed}/{i}")
        advice = rng.choice(ADVICE)
        asked = [user(rng.choice(ASKS).format(about=advice.about))]
        said = [phrased(rng, advice, polite, rng.random() < 0.5) for polite in (True, False)]
        found.append(Pair(asked, *said))
    return found
