"""Think, act, observe, until there is an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from promptlab.errors import BudgetExceeded, ContextOverflow, SetupError
from promptlab.extraction import ANSWER_IS, EMPHASIS
from promptlab.prompt import Prompt, shown
from promptlab.strategies.acting import calling, writing
from promptlab.strategies.acting.actions import FINISH, repaired, told
from promptlab.strategies.acting.approval import Approval, check_approval
from promptlab.strategies.acting.pairing import paired
from promptlab.strategies.acting.talk import Rules, Stopped, Talk
from promptlab.tool import Tool, as_tools
from promptlab.types import Answer, Message

Tools = Sequence[Tool | Callable[..., Any]]
Question = str | Mapping[str, str] | Sequence[Message]

ALL_APPROVED: Approval = MappingProxyType({})
CONCLUDE = {
    True: "There are no more steps. Give your answer now, from what you know, without calling a tool.",
    False: "There are no more steps. Write finish[your answer] now, from what you know.",
}


async def react(
    question: Question,
    tools: Tools = (),
    prompt: Prompt = Prompt(),
    max_steps: int = 8,
    native: bool = True,
    rules: Rules = Rules(),
    approval: Approval = ALL_APPROVED,
    **options: Any,
) -> Answer:
    """Yao et al. 2022 (arXiv 2210.03629): a thought and an action a step, each answered by an observation.

    Prompt: native, the question, with the tools as the provider has them. In text, the tools' names and parameters in
    the system's turn, "Question: …", then the model's turns "Thought: …", "Action: lookup[Lorn]" and the user's turns
    "Observation: …"; the argument of a tool with several parameters is a JSON object.
    Stop: in text "\\nObservation:", and what a model makes up after it is cut off where it takes no stop strings.
    Parse: native, a turn without calls is the answer. In text finish[…] is; actions are read with forbearance, or with
    `Rules(repair=False)` as the paper's code reads them. What cannot be read, names no tool, has wrong arguments, fails
    or takes too long is an observation that says so.
    Hyper-parameters: `max_steps` (7 in the paper's code), those of `rules`, and `approval`: by
    tool, which calls are run, edited, rejected, left to wait, or end the run.
    Ties: there are none.
    Cost: at most `max_steps` calls, one more with `Rules(conclude=True)`; each reads all before it, which only grows
    at its end and so stays in a provider's cache, until it has to be shortened.
    Pinned by: recorded FEVER episodes of text-davinci-002, and tau-bench's of gpt-4o (`benchmarks/replays`).

    A run that ends without an answer, for its steps, a budget, the context, a circle or a decision, has the last answer
    that the model stated on its way as `value`, if any, and the reason as `why`. `trace` is the chat; given as the
    question, it is gone on with: calls that nobody has answered yet are carried out first, and one that was under way
    when a run was killed once more. As JSON it is `[message_json(turn) for turn in trace]` (`promptlab.jsonable`).
    Differs from the paper: no demonstrations unless `prompt` has some, the thought and the action come in one request,
    and the steps are not numbered. Raises SetupError for two tools of one name, for an `approval` that names none, and
    in the text form for a tool named finish; other failures of the model than a spent budget are raised, and so is that
    before the first reply.
    """
    made = as_tools(tools)
    check_approval(approval, made)
    talk = begun(question, made, prompt, native, rules, options)
    form = calling.calling if native else writing.writing
    try:
        outcome = await form(talk, made, prompt, max_steps, approval)
        if isinstance(outcome, Stopped):
            outcome = await ended(outcome, talk, made, prompt, native)
    except (BudgetExceeded, ContextOverflow) as limit:
        if len(talk.chat) == talk.began:
            raise
        outcome = best_so_far(talk, prompt, str(limit))
    return outcome.but(trace=tuple(talk.chat), shots=len(prompt.shots))


def begun(
    question: Question, tools: Sequence[Tool], prompt: Prompt, native: bool, rules: Rules, options: dict[str, Any]
) -> Talk:
    """The chat to begin with, or to go on with."""
    form = calling if native else writing
    if not native and any(tool.spec.name == FINISH for tool in tools):
        raise SetupError("In the text form finish[…] is the answer: give the tool of that name another one.")
    if not isinstance(question, str | Mapping):
        if not question or not all(isinstance(turn, Message) for turn in question):
            raise SetupError(
                "react takes a question, or the chat to go on with: a list of Messages, and not an empty one."
            )
        chat = paired(question)
    elif native:
        chat = prompt.render(question)
    else:
        *before, _ = prompt.render(question)
        wanted = "".join(f"{message.content}\n" for message in before if message.role == "system")
        shots = [message for message in before if message.role != "system"]
        chat = [Message("system", wanted + told(tools)), *shots, Message("user", f"Question: {shown(question)}")]
    return Talk(chat, rules, form.is_result, options)


async def ended(stopped: Stopped, talk: Talk, tools: Sequence[Tool], prompt: Prompt, native: bool) -> Answer:
    """What a run comes to that has no answer: with `conclude` the model's last word, else the best so far."""
    if not (talk.rules.conclude and stopped.may_conclude):
        return best_so_far(talk, prompt, stopped.why)
    talk.add(Message("user", CONCLUDE[native]))
    reply = await (talk.ask(tools=tools) if native else talk.ask())
    talk.add(Message("assistant", reply.text))  # without calls: nobody would answer them
    said = None if native else repaired(reply.text, {FINISH})
    if said is None:
        answer = prompt.parse(reply.text)
    else:  # what asks for another step is no answer
        answer = prompt.parse(said.argument) if said.name == FINISH else Answer(None)
    return answer.but(why=stopped.why if answer.value is not None else f"{stopped.why}, nor when asked for one")


def best_so_far(talk: Talk, prompt: Prompt, why: str) -> Answer:
    """The last answer that the model stated in this run ("the answer is …"), if any, and why it was not final."""
    for message in reversed(talk.chat[talk.began :]):
        stated = [line for line in message.content.splitlines() if ANSWER_IS.search(line)]
        if message.role == "assistant" and stated:
            answer = prompt.parse(stated[-1])
            if isinstance(answer.value, str) and not prompt.labels:
                answer = answer.but(value=answer.value.strip(EMPHASIS).removesuffix(".").strip(EMPHASIS))
            if answer.value not in (None, ""):
                return answer.but(why=why)
    return Answer(None, why=why)
