"""A task model and a proposer that are simulated, for whoever asks in whichever format: ours, DSPy's, GEPA's."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Literal

from promptlab import Example, Prompt
from promptlab.types import Reply, Request, Usage

WORDS = (
    "carefully briefly exactly strictly first twice clinically literally formally plainly slowly locally globally "
    "always never mostly rather only surely kindly firmly calmly openly fully partly newly early late near far"
).split()
SEED = Prompt("Say which of the two it is.", Literal["yes", "no"])
ITEM = re.compile(r"case (\d+)")


@dataclass(frozen=True)
class World:
    """Whether an item is answered rightly depends on how hard it is, on the words of the instruction, on the
    demonstrations, and on how an instruction suits an item. All of it is fixed by the world's number; a prompt's
    answer to an item is always the same.

    Right with logit .4 for the seed; each word adds N(0, .35), up to four count; each demonstration adds N(.06, .12),
    .8 at most together; an item N(0, 1), and an item with an instruction N(0, .7).
    """

    number: int

    def normal(self, *parts: object) -> float:
        """A standard normal, the same for the same words."""
        digest = hashlib.sha256("\0".join(map(str, (self.number, *parts))).encode()).digest()
        return NormalDist().inv_cdf((int.from_bytes(digest[:6], "big") + 0.5) / 2**48)

    def examples(self, n: int, first: int = 0) -> list[Example]:
        return [Example(f"case {i}", self.gold(i), id=str(i)) for i in range(first, first + n)]

    def gold(self, item: int) -> str:
        return "yes" if self.normal("gold", item) > 0 else "no"

    def task(self, request: Request) -> Reply:
        *before, asked = [m for m in request.messages if m.role != "assistant"]
        told = next((m.content for m in before if m.role == "system"), "")
        words = [word for word in WORDS if re.search(rf"\b{word}\b", told)][:4]
        shown = [int(ITEM.findall(m.content)[-1]) for m in before if m.role == "user"]
        item = int(ITEM.findall(asked.content)[-1])
        demos = sum(0.06 + 0.12 * self.normal("demo", each) for each in shown)
        logit = 0.4 + sum(0.35 * self.normal("word", word) for word in words) + 0.8 * math.tanh(demos / 0.8)
        logit += self.normal("item", item) + 0.7 * self.normal("suits", item, *words)
        right = logit + math.log(1 / NormalDist().cdf(self.normal("luck", item)) - 1) > 0
        gold = self.gold(item)
        said = gold if right else {"yes": "no", "no": "yes"}[gold]
        return Reply(said, usage=Usage(sum(len(m.content) // 4 for m in request.messages), 0, 1, cost_usd=0.0))

    def proposer(self, request: Request) -> Reply:
        """Keeps most of the words that it is shown in the current instruction and adds some by chance: no more skilled
        than that, whoever asks."""
        asked = request.messages[-1].content
        rng = Random(f"{self.number}/{request.branch}/{asked}")
        seen = [word for word in WORDS if re.search(rf"\b{word}\b", asked)]
        kept = [word for word in rng.sample(seen, min(len(seen), 4)) if rng.random() < 0.7]
        words = dict.fromkeys([*kept, *rng.sample(WORDS, rng.randint(1, 2))])
        said = f"Say {', '.join(words)} which of the two it is."
        return Reply(formatted(said, asked), usage=Usage(len(asked) // 4, 0, 20, cost_usd=0.0))


def formatted(said: str, asked: str) -> str:
    """A proposal as it is asked for: in DSPy's fields, its JSON, GEPA's fence, or our tags."""
    tail = asked.rpartition("Respond with ")[2] if "Respond with " in asked else ""
    fields = [f for f in re.findall(r"`(?:\[\[ ## )?(\w+)(?: ## \]\])?`", tail) if f != "completed"]
    if "Provide the new instructions within ```" in asked:
        return f"```\n{said}\n```"
    if not fields:
        return f"<prompt>{said}</prompt>"
    if "JSON" in tail:
        return json.dumps(dict.fromkeys(fields, said))
    return "\n\n".join(f"[[ ## {field} ## ]]\n{said}" for field in fields)
