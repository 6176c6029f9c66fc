"""One checkpoint, several engines: do they say the same? The bundled model in promptlab's engine and in transformers.

    python benchmarks/backends.py [--quick] [--json FILE]

Logits are compared at every position of 100 word problems and label maps, greedy replies by their text and length,
all in float32.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from harness import finish, options, row

from promptlab import Message, Request, model
from promptlab.tiny.checkpoint import BUNDLED
from promptlab.tiny.data.families import word_problem
from promptlab.tiny.probe import label_map_question

TOKENS = 64


def prompts(n: int) -> list[tuple[Message, ...]]:
    """Half word problems to be solved step by step, half label maps with 8 demonstrations."""
    chats: list[tuple[Message, ...]] = []
    for i in range(n):
        rng = Random(f"backends/{i}")
        if i % 2:
            chats.append(tuple(label_map_question(rng, 4, 8)[0]))
        else:
            chats.append((Message("user", f"{word_problem(rng, 1 + i // 2 % 5)[0]}\nLet's think step by step."),))
    return chats


def main() -> None:
    given = options(__doc__)
    n = 20 if given.quick else 100
    tiny: Any = model("tiny")
    hf: Any = model(f"hf:{BUNDLED}", dtype="float32")
    chats = prompts(n)
    apart = 0.0
    with torch.inference_mode():
        for chat in chats:
            ids = torch.tensor([tiny.tokenizer.chat(chat)])
            theirs = hf.model(input_ids=ids).logits
            apart = max(apart, float((tiny.model.logits(tiny.model(ids)) - theirs).abs().max()))
    asked = [Request(chat, max_tokens=TOKENS, logprobs=True) for chat in chats]
    ours, theirs = tiny.generate(asked), hf.generate(asked)
    same = sum(a.text == b.text and a.usage == b.usage for a, b in zip(ours, theirs, strict=True)) / n
    pairs = [
        (p.logprob, q.logprob)
        for a, b in zip(ours, theirs, strict=True)
        for p, q in zip(a.tokens, b.tokens, strict=False)
    ]
    finish(
        [
            row(
                "tiny and transformers, largest difference of a logit", apart, "logits", n=n, target=1e-5, at_most=True
            ),
            row(f"tiny and transformers, equal greedy replies of {TOKENS} tokens", same, "share", n=n, target=1.0),
            row(
                "tiny and transformers, largest difference of a log-probability",
                max(abs(p - q) for p, q in pairs),
                "nats",
                n=len(pairs),
            ),
        ],
        given,
    )


if __name__ == "__main__":
    main()
