"""Byte-level BPE with single-token digits and a chat template: any text encodes, and decodes to itself.

Half a surrogate pair, which is no character, is read as U+FFFD.

A chat becomes `<bos>`, then each turn as its role's token and its text; an assistant's turn ends with `<eos>`.
Text is never read for special tokens: a user who types "<eos>" gets those five characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers, trainers

from promptlab.characters import whole_text
from promptlab.constrained import grammatical
from promptlab.errors import SetupError
from promptlab.types import Message
from promptlab.whole import whole

if TYPE_CHECKING:
    from llguidance import LLTokenizer

SPECIAL = ("<pad>", "<bos>", "<eos>", "<system>", "<user>", "<assistant>", "<tool>", "<mask>", "<call>", "</call>")
PAD, BOS, EOS, MASK = 0, 1, 2, 7
CHAT_TEMPLATE = (
    "<bos>{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% if m.role == 'assistant' and not (loop.last and continue_final_message | default(false)) %}<eos>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Tokenizer:
    """Text to token ids and back; `len(tokenizer)` is the vocabulary's size."""

    def __init__(self, bpe: Bpe):
        self.bpe = bpe
        self.bpe.encode_special_tokens = True  # "<eos>" in a text is text
        self.role = {role: SPECIAL.index(f"<{role}>") for role in ("system", "user", "assistant", "tool")}
        self._turn = lru_cache(maxsize=1024)(self.encode)  # prompts share turns, and are counted before they are sent

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Raises SetupError where the file cannot be read."""
        try:
            return cls(Bpe.from_file(str(path)))
        except Exception as error:  # tokenizers has no kind of its own
            raise SetupError(f"{path} cannot be read as a tokenizer: {error}") from error

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges from texts. The vocabulary starts with the special tokens and all 256 bytes."""
        bpe = Bpe(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        bpe.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(map(whole_text, texts), trainer)
        return cls(bpe)

    def save(self, path: Path | str) -> None:
        """A crash half-way leaves what was there."""
        with whole(Path(path)) as out:
            out.write(self.bpe.to_str(pretty=True))

    def __len__(self) -> int:
        return int(self.bpe.get_vocab_size())

    @property
    def is_ours(self) -> bool:
        """Whether special tokens have the ids that chats are made of here, and every byte has a token."""
        first = tuple(self.bpe.id_to_token(i) for i in range(len(SPECIAL)))
        return first == SPECIAL and self.bpe.get_vocab().keys() >= set(pre_tokenizers.ByteLevel.alphabet())

    @cached_property
    def grammatical(self) -> LLTokenizer:
        """Itself as what holds replies to schemas knows it."""
        return grammatical(self.bpe.to_str(), len(self), [EOS])

    def encode(self, text: str) -> list[int]:
        return list(self.bpe.encode(whole_text(text), add_special_tokens=False).ids)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(e.ids) for e in self.bpe.encode_batch([*map(whole_text, texts)], add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out, broken UTF-8 becomes U+FFFD."""
        return str(self.bpe.decode(list(ids), skip_special_tokens=True))

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a chat up to where the assistant speaks; a last assistant turn is left open, to go on from."""
        ids = [BOS]
        for message in messages:
            ids += [self.role[message.role], *self._turn(message.content)]
            if message.role == "assistant":
                ids.append(EOS)
        if messages and messages[-1].role == "assistant":
            ids.pop()
        else:
            ids.append(self.role["assistant"])
        return ids
