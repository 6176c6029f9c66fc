"""Write a program that works the answer out, and run it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from promptlab.errors import SetupError
from promptlab.extraction import Rule
from promptlab.program import ask, call
from promptlab.prompt import Prompt, shown
from promptlab.strategies.chain_of_thought import conclusion
from promptlab.tool import Tool, as_tool
from promptlab.types import Answer, Message, ToolCall

WRITE = "{}\n\nWrite a Python program that computes the answer and stores it in `ans`. Reply with the program only."
CLOSEST = "The program says: {}. Which of {} is closest to that? The answer is"
FENCED = re.compile(r"(```+|~~~+)([^\n`]*)\n(.*?)(?:\1|\Z)", re.DOTALL)  # what begins it, its language, and the block
PRINTED = Rule(marker=re.compile(r"^ans = ", re.MULTILINE), required=True)


async def program_of_thoughts(
    question: str, python: Tool | Callable[..., Any], prompt: Prompt = Prompt(), **options: Any
) -> Answer:
    """Chen et al. 2022 (arXiv 2211.12588): the model reasons in a program, an interpreter does the computing.

    `python` is a tool whose one argument is a program, and whose result is what that prints; it is run as an effect, so
    the runner decides where, and nothing is executed in this process unless the tool does so. Differs from the authors'
    code: a program runs by itself, in a fresh place, not by exec in the caller's; its `ans` is printed, and an answer
    of 0 is one. `trace` holds the program and what it printed.

    Prompt: the instruction and the demonstrations, whose targets should be programs; the question, and that a Python
        program is wanted which stores the answer in `ans`. Where the output has labels and the program's result is none
        of them, a second one asks which is closest.
    Stop: the model's own end, `max_tokens` or `stop`; of the program what the tool says.
    Parse: the reply's fenced code, else all of it; its printed `ans` as the prompt's type. A program that prints none
        is no answer, and the end of what it printed is why.
    Ties: none, as there is one program.
    Cost: 1 call and 1 run of the tool; with labels up to 2 calls.
    Pinned by: tests/test_reasoning.py
    """
    tool = as_tool(python)
    [argument, *others] = list(tool.spec.parameters.get("properties", {})) or [""]
    if not argument or set(others) & set(tool.spec.parameters.get("required", [])):
        raise SetupError(f"program_of_thoughts takes a tool of one argument, a program; {tool.spec.name} is not one.")
    chat = [*replace(prompt, says_format=False).render("")[:-1], Message("user", WRITE.format(shown(question)))]
    reply = await ask(chat, **options)
    program = code_in(reply.text)
    printing = f"{program}\nprint('ans =', ans)"
    [ran] = await call([ToolCall("program", tool.spec.name, {argument: printing})], [tool])
    trace = (program, ran.content)
    answer = conclusion(replace(reply, text=ran.content), prompt, PRINTED)
    if answer.value is None and prompt.labels and (said := PRINTED.marker.split(ran.content)[1:]):
        chat += [reply.message, Message("user", CLOSEST.format(said[-1].strip(), ", ".join(prompt.labels)))]
        answer = conclusion(await ask(chat, **options), prompt, prompt.rule)
    elif answer.value is None and not PRINTED.marker.search(ran.content):
        answer = answer.but(why=f"the program gave no answer: {last_line(ran.content)}")
    return answer.but(trace=trace, shots=len(prompt.shots))


def code_in(text: str) -> str:
    """The program that a reply holds: the fenced blocks that are said to be Python, else all fenced, else all."""
    fenced = FENCED.findall(text.replace("\r\n", "\n"))
    python = [block for _, language, block in fenced if "py" in language.lower()]
    return "\n".join(map(textwrap.dedent, python or [block for *_, block in fenced])).strip() or text.strip()


def last_line(printed: str) -> str:
    """Where a traceback says what went wrong."""
    return textwrap.shorten(["", *printed.strip().splitlines()][-1], 200) or "it printed nothing"
