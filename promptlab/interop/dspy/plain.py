"""Prompts of promptlab as a DSPy adapter: what DSPy optimises is then asked in the very words that promptlab asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspy.adapters.chat_adapter import ChatAdapter
from dspy.utils.exceptions import AdapterParseError

from promptlab.interop.dspy.prompts import ANSWER, QUESTION, shot_from
from promptlab.learners.in_context import reply_tokens
from promptlab.prompt import Prompt
from promptlab.types import Example


class PromptAdapter(ChatAdapter):  # type: ignore[misc]
    """A DSPy adapter that renders a predictor of question and answer as `prompt` would, and reads replies as it does.

    The instruction and the demonstrations are DSPy's, all else is the prompt's. So a model too small to write DSPy's
    own format can be asked, and what is found means the same in `prompt_from_dspy(…)`. A reply that says no answer is
    asked for again in no other format. Signatures with other fields, those of DSPy's proposers, are left to DSPy.
    Differs: the words before an answer, which COPRO proposes too, are not shown.
    """

    def __init__(self, prompt: Prompt, question: str = QUESTION, answer: str = ANSWER) -> None:
        super().__init__(use_json_adapter_fallback=False)
        self.prompt, self.question, self.answer = prompt, question, answer

    def __call__(self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: Any, inputs: Any) -> Any:
        if not self.is_ours(signature):
            return ChatAdapter()(lm, lm_kwargs, signature, demos, inputs)
        return super().__call__(lm, {**self.room, **lm_kwargs}, signature, demos, inputs)

    async def acall(self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: Any, inputs: Any) -> Any:
        if not self.is_ours(signature):
            return await ChatAdapter().acall(lm, lm_kwargs, signature, demos, inputs)
        return await super().acall(lm, {**self.room, **lm_kwargs}, signature, demos, inputs)

    @property
    def room(self) -> dict[str, Any]:
        """What a label may take, so that a model that says more is stopped, as everywhere."""
        tokens = reply_tokens(self.prompt)
        return {} if tokens is None else {"max_tokens": tokens}

    def is_ours(self, signature: Any) -> bool:
        return [*signature.input_fields, *signature.output_fields] == [self.question, self.answer]

    def format(self, signature: Any, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Any:
        if not self.is_ours(signature):
            return super().format(signature, demos, inputs)
        chat = self.with_demos(signature, demos).render(str(inputs[self.question]))
        return [{"role": message.role, "content": message.content} for message in chat]

    def format_assistant_message_content(self, signature: Any, outputs: Mapping[str, Any], *args: Any) -> Any:
        """What BootstrapFinetune trains to say."""
        if not self.is_ours(signature):
            return super().format_assistant_message_content(signature, outputs, *args)
        shown = self.prompt.with_shots([Example("", outputs[self.answer])]).render("")
        return shown[-2].content

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        if not self.is_ours(signature):
            return super().parse(signature, completion)  # type: ignore[no-any-return]
        answer = self.prompt.parse(completion)
        if answer.value is None:
            raise AdapterParseError(type(self).__name__, signature, completion, message=answer.why)
        return {self.answer: answer.value}

    def with_demos(self, signature: Any, demos: Sequence[Mapping[str, Any]]) -> Prompt:
        whole = [dict(demo) for demo in demos if demo.get(self.answer) is not None]
        shots = tuple(shot_from(demo, self.answer, [self.answer]) for demo in whole)
        return replace(self.prompt, instruction=signature.instructions, shots=shots)
