"""Masked language models: which word belongs where a text has a gap?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from promptlab.backends.pretrained import context_of, described, pretrained, together, weights_of
from promptlab.backends.wire.completions import text_of
from promptlab.errors import ContextOverflow, ModelError, SetupError
from promptlab.options import check
from promptlab.types import Reply, Request, Token, Usage

MASK = "[MASK]"  # how a gap may be written for any model


class HFMask:
    """A masked language model of the hub (Devlin et al. 2019, arXiv 1810.04805), bert-base-uncased for instance.

    A request's text has one gap, written [MASK] or as the model's own mask token. The reply is the likeliest token to
    fill it, and `top` gives the k likeliest, as the fill-mask pipeline of `transformers` does. The score of a
    continuation is its log-probability in the gap; one of several tokens is read as if the gap were as many masks, and
    their log-probabilities are added (the pipeline looks at its first token only).
    """

    batched = True
    scores = True
    chats = False
    local = True
    can = frozenset({"logprobs", "scores"})

    def __init__(self, name: str, *, dtype: str = "auto", device: str = "auto") -> None:
        self.name = name
        self.tokenizer, self.model, self.device = pretrained("AutoModelForMaskedLM", name, dtype, device)
        if self.tokenizer.mask_token_id is None:
            raise SetupError(f"hf-mask:{name} has no mask token: it was not trained to fill gaps.")

    def __repr__(self) -> str:
        return f"hf-mask:{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (self.name, str(self.model.dtype).removeprefix("torch."), self.device)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer."""
        return {
            "kind": "hf-mask",
            "name": self.name,
            "weights": weights_of(self.name, self.model),
            "dtype": str(self.model.dtype),
            "device": self.device,
        }

    @property
    def description(self) -> str:
        """What it is, for reports."""
        return described(self.name, self.model, self.device)

    @property
    def context_tokens(self) -> int:
        return min(context_of(self.model), int(self.tokenizer.model_max_length))

    def top(self, text: str, k: int = 5) -> list[Token]:
        """The k likeliest tokens to fill the gap of a text, the likeliest first. Raises ModelError without a gap."""
        ids = self._read(text)
        if isinstance(ids, ModelError):
            raise ids
        best = self._log_p([ids])[0][0].topk(k)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Token(self.tokenizer.decode([token]), log_p) for token, log_p in found]

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        check(self, requests)
        read = [self._read(text_of(request.messages)) for request in requests]
        fillings = [self._fillings(request) for request in requests]
        widths = {
            (i, len(tokens)): self._widened(ids, len(tokens))
            for i, ids in enumerate(read)
            if not isinstance(ids, ModelError)
            for tokens in fillings[i] or [[0]]
        }
        too_long = {i for (i, _), ids in widths.items() if len(ids) > self.context_tokens}
        rows = {at: ids for at, ids in widths.items() if at[0] not in too_long}
        log_p = dict(zip(rows, self._log_p(list(rows.values())), strict=True))
        replies: list[Reply | ModelError] = []
        for i, (request, ids) in enumerate(zip(requests, read, strict=True)):
            if isinstance(ids, ModelError):
                replies.append(ids)
            elif i in too_long:
                replies.append(ContextOverflow(f"the text is longer than the context of {self.context_tokens} tokens"))
            elif not all(fillings[i]):
                replies.append(ModelError("a text without a token cannot fill a gap"))
            elif request.continuations:
                scores = [_score(log_p[i, len(tokens)], tokens) for tokens in fillings[i]]
                replies.append(
                    Reply(scores=tuple(scores), usage=Usage(sum(len(rows[at]) for at in rows if at[0] == i)))
                )
            else:
                replies.append(self._likeliest(log_p[i, 1][0], request, len(ids)))
        return replies

    def _read(self, text: str) -> list[int] | ModelError:
        """A text as tokens, with one mask among them."""
        ids = self.tokenizer(text.replace(MASK, self.tokenizer.mask_token)).input_ids
        if (gaps := ids.count(self.tokenizer.mask_token_id)) != 1:
            return ModelError(
                f"the text has {gaps or 'no'} gap{'s' * (gaps > 1)} to fill: write {MASK} where the one is"
            )
        return list(ids)

    def _fillings(self, request: Request) -> list[list[int]]:
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in request.continuations]

    def _widened(self, ids: list[int], n: int) -> list[int]:
        """The text with n masks in place of its one."""
        at = ids.index(self.tokenizer.mask_token_id)
        return [*ids[:at], *[self.tokenizer.mask_token_id] * n, *ids[at + 1 :]]

    def _log_p(self, texts: Sequence[list[int]]) -> list[Any]:
        """For every text, (masks, vocabulary): the log-probabilities at its masks."""
        import torch

        found: dict[int, Any] = {}
        with torch.inference_mode():
            for some in together(range(len(texts)), lambda i: len(texts[i])):
                inputs = self.tokenizer.pad({"input_ids": [texts[i] for i in some]}, return_tensors="pt")
                logits = self.model(**inputs.to(self.device)).logits.float()  # (texts, positions, vocabulary)
                for row, i in enumerate(some):
                    masks = (inputs["input_ids"][row] == self.tokenizer.mask_token_id).nonzero()[:, 0]
                    found[i] = logits[row, masks].log_softmax(-1).cpu()
        return [found[i] for i in range(len(texts))]

    def _likeliest(self, log_p: Any, request: Request, read: int) -> Reply:
        token = int(log_p.argmax())
        text = self.tokenizer.decode([token])
        tokens = (Token(text, float(log_p[token])),) if request.logprobs else ()
        return Reply(text, tokens=tokens, usage=Usage(read, output_tokens=1))


def _score(log_p: Any, tokens: Sequence[int]) -> float:
    """Σ log p of the tokens, (masks, vocabulary) being their log-probabilities, in nats."""
    return float(log_p[range(len(tokens)), list(tokens)].sum())


def _load(name: str, dtype: str, device: str) -> HFMask:
    return HFMask(name, dtype=dtype, device=device)
