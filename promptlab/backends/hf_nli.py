"""Natural-language inference: does a text entail a hypothesis? Zero-shot classification without a word generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from promptlab.backends.encoder import Encoder
from promptlab.backends.pretrained import together
from promptlab.backends.wire.completions import text_of
from promptlab.characters import whole_text
from promptlab.errors import ContextOverflow, ModelError, SetupError, Unsupported
from promptlab.options import check
from promptlab.types import Reply, Request, Usage


class HFNLI(Encoder):
    """A sequence classifier of the hub that was trained on inference, facebook/bart-large-mnli for instance.

    It answers requests with continuations: the messages are the premise, each continuation is a hypothesis, and its
    score is log p of a softmax over the entailment logits of them all; for one alone, of entailment against
    contradiction. This is what the zero-shot-classification pipeline of `transformers` computes (after Yin et al. 2019,
    arXiv 1909.00161), but for a premise that is too long: it is a ContextOverflow here, not cut in silence.
    """

    kind, auto = "hf-nli", "AutoModelForSequenceClassification"
    entails = True
    can: frozenset[str] = frozenset()

    def __init__(self, name: str, *, dtype: str = "auto", device: str = "auto") -> None:
        super().__init__(name, dtype=dtype, device=device)
        classes = {label.lower(): i for label, i in self.model.config.label2id.items()}
        self.entailment = next((i for label, i in classes.items() if label.startswith("entail")), -1)
        if self.entailment < 0:
            raise SetupError(
                f"hf-nli:{name} was not trained on inference: its classes are {', '.join(classes)}, and none is "
                "called entailment. facebook/bart-large-mnli is one that was."
            )

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        import torch

        check(self, requests)
        if not all(request.continuations for request in requests):
            raise Unsupported(f"{self!r} writes nothing: score(text, hypotheses) is what it can be asked.")
        replies: dict[int, Reply | ModelError] = {}
        pairs: list[tuple[int, int, Any]] = []  # the request, which of its hypotheses, both texts as tokens
        for i, request in enumerate(requests):
            premise, hypotheses = whole_text(text_of(request.messages)), map(whole_text, request.continuations)
            read = [self.tokenizer(premise, said, split_special_tokens=True) for said in hypotheses]
            if (longest := max(len(ids.input_ids) for ids in read)) > self.context_tokens:
                replies[i] = ContextOverflow(
                    f"the text and a hypothesis have {longest} tokens; the context is {self.context_tokens}"
                )
            else:
                pairs += [(i, j, ids) for j, ids in enumerate(read)]
        logits: dict[tuple[int, int], Any] = {}
        read_tokens = Counter[int]()
        with torch.inference_mode():
            for some in together(pairs, lambda pair: len(pair[2].input_ids)):
                inputs = self.tokenizer.pad([ids for _, _, ids in some], return_tensors="pt").to(self.device)
                rows = self.model(**inputs).logits.float().cpu()  # (pairs, classes)
                logits |= {(i, j): row for (i, j, _), row in zip(some, rows, strict=True)}
        for i, _, ids in pairs:
            read_tokens[i] += len(ids.input_ids)
        for i, request in enumerate(requests):
            if i not in replies:
                rows = torch.stack([logits[i, j] for j in range(len(request.continuations))])
                replies[i] = Reply(scores=tuple(self._log_p(rows).tolist()), usage=Usage(read_tokens[i]))
        return [replies[i] for i in range(len(requests))]

    def _log_p(self, logits: Any) -> Any:
        """Of (hypotheses, classes): how each hypothesis fares against the others, or one alone against its contrary."""
        if len(logits) > 1:
            return logits[:, self.entailment].log_softmax(0)
        contradiction = 0 if self.entailment else -1
        return logits[:, [contradiction, self.entailment]].log_softmax(1)[:, 1]
