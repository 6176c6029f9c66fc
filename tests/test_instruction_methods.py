"""What each of the methods does that its paper has it do; what all of them keep to is in tests/contracts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from promptlab import Example, Prompt, ask, run
from promptlab.errors import SetupError
from promptlab.optimizers import copro, evoprompt, gepa, opro, protegi, textgrad
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.gepa import joint, leaders
from promptlab.optimizers.search import Search
from promptlab.optimizers.table import Outcome
from promptlab.optimizers.tries import SHOWN, block, cut, fitting, input_of
from promptlab.testing import Script
from promptlab.types import Request

WORDS = "cough rash fever pond barn ice smoke home water red sun tree stone day night bed hand light milk dust".split()
LISTS = [
    Example(f"{a} {b} {c}", b)
    for i, a in enumerate(WORDS)
    for b, c in [(WORDS[(i * 7 + k + 3) % 20], WORDS[(i * 3 + 5 * k + 1) % 20]) for k in range(8)]
    if len({a, b, c}) == 3
]
SEED = Prompt("Give a word.")


def told(request: Request) -> str:
    return request.messages[0].content


def follower(request: Request) -> str:
    """The second word if it is told so, sometimes even if not; else the first."""
    words = request.messages[-1].content.split()
    return words[1] if "second" in told(request) or len(words[0]) == 3 else words[0]


def script(proposes: Callable[[Request], str], answers: Callable[[Request], str] = follower) -> Script:
    return Script(lambda r: proposes(r) if r.to == "proposer" else answers(r))


def lot(branch: tuple[int, ...]) -> str:
    return WORDS[branch[-2] % 20] + WORDS[branch[-2] // 20 % 20]


def asked(model: Script, holding: str = "") -> list[str]:
    return [told(r) for r in model.requests if r.to == "proposer" and holding in told(r)]


def test_protegi_criticises_groups_of_failures_and_edits_along_the_criticism():
    def proposes(request: Request) -> str:
        if told(request).startswith("Write a variation"):
            return "Name any word you like."
        if len(request.messages) == 1:
            return f"It does not say that it is number {len(asked(model)) % 5 + 2} in the list."
        criticised, criticism, wanted = (message.content for message in request.messages)
        assert "What is wrong" in criticised
        assert "It does not say that it is number" in criticism
        assert "Write a better instruction" in wanted
        return "<prompt>Give the second word.</prompt>"

    model = script(proposes)
    found = run(protegi(SEED, LISTS, calls=1_000, expansions=5, errors=3, rounds=1), model).found
    assert found.accepted
    criticisms = [told(r) for r in model.requests if r.to == "proposer" and len(r.messages) == 1 and "Got:" in told(r)]
    assert len(criticisms) == 4
    assert all(text.count("Input:") == text.count("Right:") == text.count("Got:") == 3 for text in criticisms)
    assert all(right != got for text in criticisms for right, got in re.findall(r"Right: (.*)\nGot: (.*)", text))
    assert len(asked(model, "What is wrong")) == 4 + 4
    assert len(asked(model, "Write a variation")) == 5 - 1  # of four edits, all the same, one is new
    assert len(found.candidates) <= 1 + 5
    assert {each.op for each in found.candidates} == {"seed", "corrected", "paraphrased"}


def test_a_proposer_is_not_asked_more_than_is_paid_for():
    model = script(lambda r: f"Say {lot(r.branch)}.")
    found = run(opro(SEED, LISTS, calls=100, proposals=90), model).found
    assert len(model.requests) == found.calls <= 60
    assert "none of 3 candidates did better in the race, and the search ended early" in found.why
    assert "21 were left, beside 40 that are kept for the last comparison, and a proposal that is scored" in found.why


@pytest.mark.parametrize("optimizer", [opro, copro])
@pytest.mark.parametrize("calls", [100, 200, 300])
def test_what_was_proposed_is_scored_and_raced_however_few_the_calls(optimizer, calls):
    model = script(lambda r: f"Say {lot(r.branch)} and {sum(r.branch)}.")
    found = run(optimizer(SEED, LISTS, calls=calls), model).found
    scored = {event["candidate"] for event in found.events if event["event"] == "scored"}
    assert len(found.candidates) > 1
    assert scored == {each.key for each in found.candidates}
    assert any(event["event"] == "raced" for event in found.events)
    assert "was used up" not in found.why


def test_opro_reads_what_was_tried_in_ascending_order_of_its_scores():
    count = iter(range(1_000))
    names = ["opening", "last", "second", "longest", "shortest", "nicest", "rarest", "oldest", "wettest", "warmest"]

    def proposes(request: Request) -> str:
        i = next(count)
        return f"<prompt>Look, and say the {names[i % 10]} word {names[i // 10 % 10]} {i}.</prompt>"

    model = script(
        proposes, lambda r: follower(r) if "second" not in told(r) or len(r.messages[-1].content) % 3 else "-"
    )
    found = run(opro(SEED, LISTS, calls=1_500, steps=3, exemplars=2), model).found
    texts = asked(model)
    shown = [[int(score) for score in re.findall(r"Score: (\d+)", text)] for text in texts]
    assert all(scores == sorted(scores) for scores in shown)
    assert len(shown[0]) == 1
    assert len(shown[-1]) > 8
    assert all(text.count("Input:") == 2 for text in texts)
    assert "second" in texts[-1][: texts[-1].rindex("Score:")].splitlines()[-1]
    assert found.best.op == "improved"


PAIR = {"pick": Prompt("Pick a word."), "shout": Prompt("Shout it.")}


async def picked_and_shouted(question: Any, prompts: Any) -> str:
    picked = await ask(prompts["pick"].render(question))
    shouted = await ask(prompts["shout"].render(f"The word is {picked.text}."))
    return shouted.text


def shouting(request: Request) -> str:
    said = request.messages[-1].content
    if not said.startswith("The word is"):
        return follower(request)
    word = said.removeprefix("The word is ").rstrip(".")
    return word.upper() if "capitals" in told(request) or word < "d" else word


def backwards(request: Request) -> str:
    """Criticises the last step and its input, then the first; and rewrites both."""
    text = told(request)
    if "Only criticise" in text:
        at_fault = "Instruction: Shout it." in text
        return "Say capitals. <input>another word was due</input>" if at_fault else "Say which word."
    return f"<prompt>{'Use capitals.' if 'Say capitals' in text else 'Give the second word.'}</prompt>"


def test_textgrad_passes_criticism_back_from_the_last_step_to_the_first():
    model = script(backwards, shouting)
    shouts = [Example(each.input, each.target.upper()) for each in LISTS]
    options = {"solve": picked_and_shouted, "calls": 1_500, "constraints": ["Ten words at most."]}
    found = run(textgrad(PAIR, shouts, **options), model).found
    assert found.accepted
    assert found.best.slot("pick").instruction == "Give the second word."
    assert found.best.slot("shout").instruction == "Use capitals."
    first, *_, last = [text for text in asked(model, "Only criticise") if "Shout it." in text or "Pick a word." in text]
    assert "Instruction: Shout it." in first
    assert "Feedback on the output: The answer is wrong. Right would be: " in first
    assert "Instruction: Pick a word." in last
    assert "Feedback on the output: another word was due" in last
    assert "Only criticise" in last
    assert "<input>" not in last
    assert all("Ten words at most." in text for text in asked(model, "Improve the instruction"))


def test_textgrad_shows_earlier_criticism_and_reverts_what_is_no_better():
    number = iter(range(1_000))

    def proposes(request: Request) -> str:
        if "Only criticise" in told(request):
            return f"Criticism {next(number)} of it."
        return f"<prompt>{'Say something that begins with the letter ' + WORDS[next(number) % 20]}.</prompt>"

    model = script(proposes, lambda r: follower(r) if told(r) == SEED.instruction else "-")
    tuned = run(textgrad(SEED, LISTS, calls=1_500, steps=4, momentum=2), model)
    assert tuned.instruction == SEED.instruction
    assert "did better in the race" in tuned.found.why
    rewritings = asked(model, "Improve the instruction")
    assert len(rewritings) >= 3
    assert all("\n".join(["<instruction>", SEED.instruction]) in text for text in rewritings)  # never of a worse one
    earlier = [text[text.index("earlier wordings") : text.index("keep to")] for text in rewritings]
    assert "(none)" in earlier[0]
    assert "- Criticism 0 of it." in earlier[1]


def searching(prompts: Any = SEED) -> Search:
    return Search("gepa", prompts, LISTS, calls=1_500)


def fill(search: Search, candidate: Candidate, scores: str) -> None:
    """Scores on the race's items, one digit each."""
    for item, score in zip(search.sections.race, scores, strict=False):
        search.table.rows[candidate.key, item.number, 0] = Outcome(float(score))


def test_leaders_are_those_best_on_an_item_that_all_were_asked():
    search = searching()
    seed, a, b, c = search.seed, *(search.seed.saying(text, "made") for text in ("One.", "Two.", "Three."))
    fill(search, seed, "0000")
    fill(search, a, "1100")
    fill(search, b, "0010")
    fill(search, c, "10001111")  # what others were not asked does not count
    assert leaders(search, [seed, a, b, c]) == [(a, 3), (b, 2)]
    assert leaders(search, [seed]) == [(seed, 4)]
    twin = search.seed.saying("As good.", "made")
    fill(search, twin, "1100")
    assert [each for each, _ in leaders(search, [a, b, twin])] == [b, twin]  # of equals the newest


def test_two_lineages_are_joined_by_what_each_has_changed():
    search = searching(PAIR)
    a = search.seed.saying("Pick the second.", "reflected", "pick")
    b = search.seed.saying("Use capitals.", "reflected", "shout")
    search.add([a, b])
    fill(search, a, "11")
    fill(search, b, "10")
    both = joint(search, a, b)
    assert both is not None
    assert [both.slot(s).instruction for s in both.slots] == ["Pick the second.", "Use capitals."]
    assert both.parents == (a.key, b.key)
    child = a.saying("Pick the middle one.", "reflected", "pick")
    search.add([child])
    assert joint(search, a, child) is None
    assert joint(search, a, search.seed) is None


def test_gepa_joins_what_two_lineages_found_and_reads_the_scores_remarks():
    def proposes(request: Request) -> str:
        if "Pick a word." in told(request) or "Shout it." in told(request):
            return f"<prompt>{'Give the second word.' if 'Pick a word.' in told(request) else 'Use capitals.'}</prompt>"
        return "no idea"

    def score(value: str, target: str) -> tuple[float, str]:
        return (value.upper() == target) / 2 + value.isupper() / 2, f"the case is {value.isupper()}"

    model = script(proposes, shouting)
    shouts = [Example(each.input, each.target.upper()) for each in LISTS]
    found = run(gepa(PAIR, shouts, score, solve=picked_and_shouted, calls=2_000), model).found
    assert found.accepted
    assert found.best.slot("pick").instruction == "Give the second word."
    assert found.best.slot("shout").instruction == "Use capitals."
    reflections = asked(model, "Reflect on")
    assert all("Remark: the case is " in text for text in reflections)
    assert "Asked: The word is" in asked(model, "Shout it.")[0]


@pytest.mark.parametrize("algorithm", ["ga", "de"])
def test_evoprompt_crosses_and_mutates_what_there_is(algorithm):
    def proposes(request: Request) -> str:
        text = told(request)
        if "Cross the two" in text or "Then cross the result" in text:
            return "First I cross them. <prompt>Take the list and give its second word.</prompt>"
        return f"Say the {WORDS[len(asked(model)) % 20]} of the {WORDS[len(asked(model)) * 7 % 20]}, or a word like it."

    model = script(proposes)
    found = run(evoprompt(SEED, LISTS, calls=2_000, algorithm=algorithm), model).found
    assert found.accepted
    assert "second" in found.best.slot().instruction
    assert len(found.best.parents) == (2 if algorithm == "ga" else 4)
    assert len(asked(model, "Best: ")) == (
        0 if algorithm == "ga" else len(asked(model, "Cross") + asked(model, "cross the"))
    )


def test_evoprompt_knows_two_algorithms():
    with pytest.raises(SetupError, match="ga, de"):
        run(evoprompt(SEED, LISTS, algorithm="sa"), script(lambda r: ""))


def test_what_is_shown_is_cut_by_field():
    assert cut("short") == "short"
    assert len(cut("x" * 5_000)) == 600
    assert cut("a" * 500 + "b" * 500, 105) == "a" * 50 + " […] " + "b" * 50
    search = Search("gepa", SEED, [Example({"text": "x" * 5_000, "who": f"me {i}"}, "y") for i in range(60)])
    first, second = input_of(search.feed[0]).splitlines()
    assert first.startswith("text: xxx")
    assert len(first) < 700
    assert second.startswith("who: me ")
    assert len(block(["x" * 2_000] * 9)) <= SHOWN + 9
    assert fitting(["ab" * 100, "c"], most=50) == [cut("ab" * 100, 50)]


def test_copro_also_looks_for_the_words_that_an_answer_follows_on():
    number = iter(range(1_000))

    def proposes(request: Request) -> str:
        if "a few words" in told(request):
            return ["<prompt>The second word:</prompt>", "x" * 70, "two\nlines", ""][next(number) % 4]
        return f"<prompt>Name a {WORDS[next(number) % 20]} or a {WORDS[next(number) * 7 % 20]}.</prompt>"

    def answers(request: Request) -> str:
        question, *prefix = request.messages[-1].content.split("\n")
        a, b, _ = question.split()
        return b if prefix == ["The second word:"] or len(a) == 3 else a

    model = script(proposes, answers)
    found = run(copro(SEED, LISTS, calls=1_500), model).found
    assert found.accepted
    assert found.best.slot().frame == ("", "\nThe second word:")
    assert found.rejected["it is no line of 60 characters"] == 2
    assert found.rejected["it is empty"] >= 1
    assert not asked(model, "Input:")
