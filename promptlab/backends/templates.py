"""What engines that load `transformers` checkpoints share: requests as tokens and back, and seeds for every branch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from jinja2 import TemplateError

from promptlab.backends.wire.completions import text_of
from promptlab.characters import whole_text
from promptlab.errors import ContextOverflow, ModelError
from promptlab.types import Message, Reply, Request, Usage

MAX_NEW_TOKENS = 256  # where the request does not say


@dataclass(frozen=True, slots=True)
class Job:
    """Request `i` of a call, its prompt and continuations as token ids; `room` is the most tokens of its reply."""

    i: int
    request: Request
    prompt: list[int]
    texts: list[list[int]]
    room: int


def jobs_of(
    tokenizer: Any, requests: Sequence[Request], context: int, behind: int = 0
) -> tuple[list[Job], dict[int, Reply | ModelError]]:
    """What there is to do, and what is answered already: a request that cannot be read, or may write nothing.

    `behind` is how many tokens have to fit behind a text that is scored.
    """
    jobs: list[Job] = []
    answered: dict[int, Reply | ModelError] = {}
    for i, request in enumerate(requests):
        try:
            prompt = encode(tokenizer, request.messages)
        except ModelError as error:
            answered[i] = error
            continue
        texts = [plain(tokenizer, text) for text in request.continuations]
        needed = max(map(len, texts)) + behind if texts else 1
        most = MAX_NEW_TOKENS if request.max_tokens is None else request.max_tokens
        if not prompt:
            answered[i] = ModelError("the prompt is empty: there is no token to go on from")
        elif len(prompt) + needed > context:
            answered[i] = ContextOverflow(
                f"the prompt has {len(prompt)} tokens and needs {needed} more; the context is {context}"
            )
        elif most == 0 and not texts:
            answered[i] = Reply(finish="length", usage=Usage(len(prompt)))
        else:
            jobs.append(Job(i, request, prompt, texts, min(most, context - len(prompt))))
    return jobs, answered


def encode(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """A chat as the model's template has it, up to where its reply begins; special tokens in texts are text.

    A last turn that is the model's own is gone on with. Without a template all is plain text to go on with. Raises
    ModelError for a chat that the template refuses.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer.encode(whole_text(text_of(messages)), split_special_tokens=True))
    chat = [{"role": message.role, "content": whole_text(message.content)} for message in messages]
    begun = bool(chat) and chat[-1]["role"] == "assistant"
    how = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
    try:
        ids: Any = tokenizer.apply_chat_template(chat, return_dict=False, sanitize_control_tokens=True, **how)
    except (TemplateError, ValueError) as error:
        raise ModelError(f"the model's chat template does not take this chat: {error}") from error
    return list(ids)


def plain(tokenizer: Any, text: str) -> list[int]:
    """A text as tokens, none of which is special."""
    return list(tokenizer.encode(whole_text(text), add_special_tokens=False, split_special_tokens=True))


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text that they are together; a character of several tokens is its last one's.

    Decoded one by one, tokens of many tokenizers lose the space that they begin with.
    """
    whole = decode(tokenizer, ids)
    ends = [alike(decode(tokenizer, ids[:n]), whole) for n in range(len(ids) + 1)]
    return [whole[start:end] for start, end in pairwise(accumulate(ends, max))]


def alike(text: str, other: str) -> int:
    """How many characters two texts both begin with."""
    return next(n for n in range(len(text), -1, -1) if other.startswith(text[:n]))


def seed_of(request: Request, seed: int) -> int:
    """The seed of a request's draws, of 63 bits: its own or the backend's, and its branch."""
    key = repr((request.seed if request.seed is not None else seed, request.branch)).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1
