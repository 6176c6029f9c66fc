"""Masked language models: which word belongs where a text has a gap?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from promptlab.backends.encoder import Encoder
from promptlab.backends.pretrained import together
from promptlab.backends.templates import plain
from promptlab.backends.wire.completions import text_of
from promptlab.errors import ContextOverflow, ModelError, SetupError
from promptlab.options import check
from promptlab.types import Reply, Request, Token, Usage

MASK = "[MASK]"  # how a gap may be written for any model


class HFMask(Encoder):
    """A masked language model of the hub (Devlin et al. 2019, arXiv 1810.04805), bert-base-uncased for instance.

    A request's text has one gap, written [MASK] or as the model's own mask token. The reply is the likeliest token to
    fill it, and `top` gives the k likeliest, as the fill-mask pipeline of `transformers` does. The score of a
    continuation is its log-probability in the gap; one of several tokens is read as if the gap were as many masks, and
    their log-probabilities are added (the pipeline looks at its first token only).
    """

    kind, auto = "hf-mask", "AutoModelForMaskedLM"
    can = frozenset({"logprobs"})

    def __init__(self, name: str, *, dtype: str = "auto", device: str = "auto") -> None:
        super().__init__(name, dtype=dtype, device=device)
        if self.tokenizer.mask_token_id is None:
            raise SetupError(f"hf-mask:{name} has no mask token: it was not trained to fill gaps.")
        self.mask: int = self.tokenizer.mask_token_id

    def top(self, text: str, k: int = 5) -> list[Token]:
        """The k likeliest tokens to fill the gap of a text, the likeliest first. Raises ModelError without a gap."""
        ids = self._read(text)
        if isinstance(ids, ModelError):
            raise ids
        if len(ids) > self.context_tokens:
            raise ContextOverflow(f"the text has {len(ids)} tokens; the context is {self.context_tokens}")
        k = min(k, self.model.config.vocab_size)
        best: list[Token] = self._at_masks([ids], lambda _, log_p: self._likeliest(log_p, k))[0]
        return best

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        check(self, requests)
        read = [self._read(text_of(request.messages)) for request in requests]
        fillings = [[plain(self.tokenizer, text) for text in request.continuations] for request in requests]
        rows = {
            (i, len(tokens)): self._widened(ids, len(tokens))
            for i, ids in enumerate(read)
            if not isinstance(ids, ModelError)
            for tokens in fillings[i] or [[0]]
        }
        too_long = {i for (i, _), ids in rows.items() if len(ids) > self.context_tokens}
        asked = [at for at in rows if at[0] not in too_long]

        def told(row: int, log_p: Any) -> Any:
            """The log-probability of every filling of so many tokens, by its number; or the likeliest token."""
            i, n = asked[row]
            if not fillings[i]:
                return self._likeliest(log_p, 1)
            return {j: _score(log_p, tokens) for j, tokens in enumerate(fillings[i]) if len(tokens) == n}

        found = dict(zip(asked, self._at_masks([rows[at] for at in asked], told), strict=True))
        scores: dict[int, dict[int, float]] = {}
        tokens_read = Counter[int]()
        for i, n in asked:
            tokens_read[i] += len(rows[i, n])
            if fillings[i]:
                scores.setdefault(i, {}).update(found[i, n])
        replies: list[Reply | ModelError] = []
        for i, (request, ids) in enumerate(zip(requests, read, strict=True)):
            if isinstance(ids, ModelError):
                replies.append(ids)
            elif i in too_long:
                replies.append(ContextOverflow(f"the text is longer than the context of {self.context_tokens} tokens"))
            elif not all(fillings[i]):
                replies.append(ModelError("a text without a token cannot fill a gap"))
            elif request.continuations:
                in_order = tuple(scores[i][j] for j in range(len(fillings[i])))
                replies.append(Reply(scores=in_order, usage=Usage(tokens_read[i])))
            else:
                [token] = found[i, 1]
                kept = (token,) if request.logprobs else ()
                replies.append(Reply(token.text, tokens=kept, usage=Usage(len(ids), output_tokens=1)))
        return replies

    def _read(self, text: str) -> list[int] | ModelError:
        """A text as tokens, with one mask among them; no other token of it is special."""
        parts = text.replace(MASK, self.tokenizer.mask_token).split(self.tokenizer.mask_token)
        if (gaps := len(parts) - 1) != 1:
            return ModelError(
                f"the text has {gaps or 'no'} gap{'s' * (gaps > 1)} to fill: write {MASK} where the one is"
            )
        before, after = parts
        written = self.tokenizer.added_tokens_decoder[self.mask]
        before = before.rstrip() if written.lstrip else before  # RoBERTa's mask takes the space before it
        after = after.lstrip() if written.rstrip else after
        frame = self.tokenizer.encode(self.tokenizer.mask_token)  # [CLS] [MASK] [SEP], say
        at = frame.index(self.mask)
        return [*frame[:at], *plain(self.tokenizer, before), self.mask, *plain(self.tokenizer, after), *frame[at + 1 :]]

    def _widened(self, ids: list[int], n: int) -> list[int]:
        """The text with n masks in place of its one."""
        at = ids.index(self.mask)
        return [*ids[:at], *[self.mask] * n, *ids[at + 1 :]]

    def _at_masks(self, texts: Sequence[list[int]], take: Callable[[int, Any], Any]) -> list[Any]:
        """What is taken of every text: `take` gets its number, and the (masks, vocabulary) log-probabilities."""
        import torch

        found: dict[int, Any] = {}
        with torch.inference_mode():
            for some in together(range(len(texts)), lambda i: len(texts[i])):
                inputs = self.tokenizer.pad({"input_ids": [texts[i] for i in some]}, return_tensors="pt")
                logits = self.model(**inputs.to(self.device)).logits  # (texts, positions, vocabulary)
                for row, i in enumerate(some):
                    masks = (inputs["input_ids"][row] == self.mask).nonzero()[:, 0]
                    found[i] = take(i, logits[row, masks].float().log_softmax(-1))
        return [found[i] for i in range(len(texts))]

    def _likeliest(self, log_p: Any, k: int) -> list[Token]:
        best = log_p[0].topk(k)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Token(self.tokenizer.decode([token]), log_p) for token, log_p in found]


def _score(log_p: Any, tokens: Sequence[int]) -> float:
    """Σ log p of the tokens, (masks, vocabulary) being their log-probabilities, in nats."""
    return float(log_p[range(len(tokens)), list(tokens)].sum())
