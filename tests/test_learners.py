"""Learners: what each makes of labelled examples."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from studies import a_task

from promptlab import Answer, Example, Message, Prompt, Task, attempt, finetuned, in_context, run, traced
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, PromptlabError, SetupError
from promptlab.learners import ARMS, DEFAULT_ARMS, Solver, arms_named
from promptlab.learners.baselines import Majority, TfidfLogistic
from promptlab.learners.finetuned import pairs_of
from promptlab.learners.lengths import end_of
from promptlab.learners.rewarded import rewarded
from promptlab.learners.tuned_and_prompted import halves, tuned_and_prompted
from promptlab.strategies import chain_of_thought, self_consistency
from promptlab.testing import Script

HUGE = 10_000_000


def answers(learner, task: Task, k: int, questions=None, seed: int = 0) -> list[Answer]:
    solver = learner(task, task.train[:k], seed)
    asked = [e.input for e in task.test] if questions is None else questions
    return run([attempt(solver.program(question)) for question in asked], solver.backend)


# ---- baselines


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_the_majority_is_the_most_frequent_label_and_among_equals_the_first_by_name(labels):
    examples = [Example(str(i), label) for i, label in enumerate(labels)]
    task = Task.classification("t", [*examples, Example("x", "z")], [Example("?", "a")])
    [answer] = answers(Majority(), task, len(labels))
    assert answer.value == min(set(labels), key=lambda label: (-labels.count(label), label))


@pytest.mark.parametrize(("k", "chosen_c"), [(4, False), (24, True)])
def test_tfidf_is_the_pipeline_one_would_write_by_hand(k, chosen_c):
    task = a_task(24, 20)
    texts, targets = [e.input for e in task.train[:k]], [e.target for e in task.train[:k]]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    vectors = words.fit_transform(texts)
    by_hand = LogisticRegression(C=10.0, max_iter=2000)
    if chosen_c:
        folds = StratifiedKFold(3, shuffle=True, random_state=5)
        by_hand = GridSearchCV(by_hand, {"C": [1.0, 10.0, 100.0]}, cv=folds)
    by_hand.fit(vectors, targets)
    expected = list(by_hand.predict(words.transform([e.input for e in task.test])))
    assert [a.value for a in answers(TfidfLogistic(), task, k, seed=5)] == expected
    assert len(set(expected)) == 2


@pytest.mark.parametrize(
    ("who", "urgent", "routine", "when"),
    [
        ("患者 儿童 孕妇 村民", "胸痛剧烈 呼吸困难 大量出血", "续开处方 接种疫苗 年度体检", "昨日开始 今晨就诊 已预约"),
        (
            "こども 母親 患者 村民",
            "胸の痛み 呼吸困難 大出血",
            "処方の継続 ワクチン接種 健康診断",
            "昨日から 今朝 予約済み",
        ),
        ("เด็ก แม่ ผู้ป่วย ชาวบ้าน", "เจ็บหน้าอก หายใจลำบาก เลือดออก", "ฉีดวัคซีน ตรวจร่างกาย ล้างแผล", "วันนี้ เช้านี้ นัดแล้ว"),
    ],
)
def test_tfidf_learns_in_scripts_without_spaces(who, urgent, routine, when):
    rows = [
        Example(f"{person}{what}{at}", label)
        for person in who.split()
        for at in when.split()
        for label, whats in (("urgent", urgent), ("routine", routine))
        for what in whats.split()
    ]
    task = Task.classification("t", rows[:36], rows[36:])  # the last two persons are new
    assert [a.value for a in answers(TfidfLogistic(), task, 36)] == [e.target for e in task.test]


def test_tfidf_chooses_c_among_its_own_examples():
    """The rest of the pool may say anything."""
    task = a_task(24, 20)
    other = Task.classification("t", [*task.train[:6], *[Example("nonsense", "no")] * 18], task.test)
    assert answers(TfidfLogistic(), task, 6) == answers(TfidfLogistic(), other, 6)


def test_tfidf_with_nothing_to_tell_labels_apart_by_says_the_majority():
    wordless = Task.classification(
        "t", [Example("?!", "a"), Example("...", "b"), Example("--", "b")], [Example("x", "a")]
    )
    assert answers(TfidfLogistic(), wordless, 3)[0].value == "b"
    assert answers(TfidfLogistic(), wordless, 1)[0].value == "a"


# ---- in-context learning


def test_few_shot_without_examples_is_zero_shot(random_tiny):
    task = a_task()
    zero = Script(lambda request: request.messages[-1].content)
    solver = in_context(zero)(task, (), 0)
    run(solver.program("a plum"), zero)
    [request] = zero.requests
    assert list(request.messages) == task.prompt.render("a plum")
    for shots in ("balanced", "random", "nearest"):
        assert answers(in_context(random_tiny, shots), task, 0) == answers(in_context(random_tiny), task, 0)


def test_demonstrations_that_do_not_fit_are_left_out_and_counted(random_tiny):
    task = a_task(60, 6)
    context = random_tiny.context_tokens
    for shots in ("balanced", "random"):
        for answer in answers(in_context(random_tiny, shots), task, 60):
            assert answer.shots + answer.left_out == 60
            assert 0 < answer.shots < 60
    few = answers(in_context(random_tiny), task, 4)
    assert {(a.shots, a.left_out) for a in few} == {(4, 0)}
    assert random_tiny.count_tokens(task.prompt.with_shots(task.train).render("?")) > context


def test_the_nearest_are_at_most_32_and_the_rest_is_counted():
    model = Script(lambda request: "yes")
    learner = in_context(model, "nearest")
    assert {(a.shots, a.left_out) for a in answers(learner, a_task(50, 3), 50)} == {(32, 18)}
    assert "up to 32" in learner.description


def test_an_example_that_never_fits_takes_no_demonstrations_from_others(random_tiny):
    task = a_task(11, 6)
    long = Example("word " * 2_000, "yes", "long")
    with_it = Task.classification("t", [*task.train[:10], long], task.test, task.prompt.instruction)
    for shots in ("balanced", "random"):
        told = {(a.shots, a.left_out) for a in answers(in_context(random_tiny, shots), with_it, 11)}
        assert told == {(10, 1)}


def test_an_unusually_long_example_leaves_other_questions_their_demonstrations(random_tiny):
    task = a_task(20, 6)
    room = random_tiny.context_tokens - random_tiny.count_tokens(task.prompt.render("")) - 40
    long = Example(end_of("lot 7 " * 500, lambda text: len(random_tiny.tokenizer.encode(text)) < room, 256), "yes", "l")
    with_it = Task.classification("t", [*task.train[:19], long], task.test, task.prompt.instruction)
    assert min(a.shots for a in answers(in_context(random_tiny, "random"), with_it, 20, seed=1)) > 1


def test_a_strategy_replaces_how_the_question_is_asked():
    model = Script(lambda request: "It is a fruit. The answer is yes.")
    learner = in_context(model, strategy=chain_of_thought)
    assert {a.value for a in answers(learner, a_task(), 2)} == {"yes"}
    assert "step by step" in model.requests[0].messages[-1].content
    assert learner.description == "chain of thought, after balanced demonstrations"


def test_demonstrations_of_reasoning_strategies_end_in_the_answer_and_leave_room_to_reason(random_tiny):
    task = a_task()
    model = Script(lambda request: "The answer is yes.")
    for strategy in (chain_of_thought, partial(self_consistency, n=1)):
        run(in_context(model, strategy=strategy)(task, task.train[:2], 0).program("a plum"), model)
        shown = [m.content for m in model.requests[-1].messages if m.role == "assistant"]
        assert sorted(shown) == ["The answer is no.", "The answer is yes."]
    small = Script(lambda request: "The answer is yes.")
    small.context_tokens = 400  # words here
    small.count_tokens = lambda messages: sum(len(m.content.split()) for m in messages)
    [answer] = answers(in_context(small, strategy=chain_of_thought), a_task(40), 40, ["a plum"])
    sent = small.count_tokens(small.requests[-1].messages)
    assert 400 - 256 - 12 < sent <= 400 - 256
    assert 0 < answer.shots < 40


def test_settings_that_mean_nothing_are_refused(random_tiny):
    with pytest.raises(SetupError, match="known are balanced, random, nearest"):
        in_context(random_tiny, "best")
    with pytest.raises(SetupError, match="calibration needs log-probabilities"):
        in_context(Script(), calibrated=True)
    with pytest.raises(SetupError, match="known are sft, lora, dpo, head"):
        finetuned(random_tiny, "qlora")
    with pytest.raises(SetupError, match="cannot be fine-tuned here; tiny and hf can"):
        finetuned(Script())
    with pytest.raises(SetupError, match="cannot be fine-tuned here; tiny can"):
        finetuned(Script(), "head")
    for make in (lambda: in_context("tiny"), lambda: finetuned("tiny"), lambda: Solver(None, "tiny")):
        with pytest.raises(SetupError, match=r"runs on a backend, got str\. Pass model\('tiny'\)"):
            make()
    with pytest.raises(SetupError, match=r"Unknown arm 'few_shot'\. Did you mean few-shot\?"):
        arms_named(["few_shot"], random_tiny)
    prompted = set(ARMS) - {"nli"}
    assert set(DEFAULT_ARMS) <= prompted == set(arms_named(prompted, random_tiny))


# ---- fine-tuning


@pytest.mark.parametrize("method", ["sft", "lora", "dpo", "head"])
def test_fine_tuning_learns_what_is_trivially_separable(random_tiny, method):
    words = {"yes": "apple", "no": "bolt"}
    train, test = ([Example(" ".join([words[y]] * n), y) for n in many for y in words] for many in ((1, 3, 5), (2, 4)))
    task = Task.classification("t", train, test)
    before = copy.deepcopy(random_tiny.model.state_dict())
    found = answers(finetuned(random_tiny, method), task, len(train))
    assert [a.value for a in found] == [e.target for e in task.test]
    assert all(torch.equal(w, before[name]) for name, w in random_tiny.model.state_dict().items())  # a copy learned
    if method != "head":
        assert [a.generated.value for a in found] == [e.target for e in task.test]


@pytest.mark.parametrize("method", ["sft", "lora", "dpo", "head"])
def test_training_that_diverges_is_an_error_not_an_answer(random_tiny, method):
    broken = copy.deepcopy(random_tiny.model)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    task = a_task()
    with pytest.raises(PromptlabError, match="Training stopped in step 1: the loss is nan"):
        finetuned(Tiny.of(broken, random_tiny.tokenizer), method)(task, task.train[:2], 0)


@pytest.mark.parametrize(
    "learner", [lambda m: finetuned(m, "dpo"), lambda m: finetuned(m, "head"), lambda m: tuned_and_prompted(m, "dpo")]
)
def test_what_chooses_among_labels_says_so_of_a_task_without_them_or_with_others(random_tiny, learner):
    counts = [Example("x" * n, n) for n in range(1, 9)]
    with pytest.raises(SetupError, match="chooses among labels, and the task has fewer than two"):
        learner(random_tiny)(Task("t", Prompt("Count.", int), counts, counts), counts, 0)
    with pytest.raises(SetupError, match="of the task's prompt, 1, 2, and examples have others: 3, 4, 5, 6, 7"):
        learner(random_tiny)(Task("t", Prompt("Count.", Literal["1", "2"]), counts, counts), counts, 0)


def test_reinforcement_goes_on_from_half_of_the_labels_with_the_other_half_as_reward(random_tiny):
    words = {"yes": "apple", "no": "bolt"}
    train, test = (
        [Example(" ".join([words[y]] * n), y) for n in many for y in words] for many in ((1, 3, 5, 7), (2, 4))
    )
    task = Task.classification("t", train, test)
    before = copy.deepcopy(random_tiny.model.state_dict())
    learner = rewarded(random_tiny, iterations=2)
    solver = learner(task, task.train, 0)
    assert solver.notes == ("trained on 4 of the labels, rewarded for those of 4 others",)
    found = run([solver.program(e.input) for e in task.test], solver.backend)
    assert [a.generated.value for a in found] == [e.target for e in task.test]
    assert all(torch.equal(w, before[name]) for name, w in random_tiny.model.state_dict().items())
    alone = learner(task, task.train[:1], 0)
    assert alone.notes == ("trained on 1 of the labels, rewarded for those of 0 others",)
    with pytest.raises(SetupError, match="cannot be fine-tuned here"):
        rewarded(Script())


def test_reinforcement_changes_what_fine_tuning_on_the_same_half_left(random_tiny):
    task = a_task()
    reinforced, tuned = rewarded(random_tiny, 1)(task, task.train, 0), finetuned(random_tiny, "sft")
    plain = tuned(task, halves(task.train)[0], 0)
    pairs = zip(reinforced.backend.model.parameters(), plain.backend.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_only_what_lora_trains_is_counted(random_tiny):
    task = a_task()
    lora, sft = (finetuned(random_tiny, method)(task, task.train[:2], 0) for method in ("lora", "sft"))
    assert lora.trained_parameters == 8 * 2 * (4 * (32 + 32) + 3 * (32 + 64))  # rank, layers, in + out of each
    assert lora.trained_parameters < sft.trained_parameters


def test_every_label_is_preferred_to_others_at_most_three_of_them():
    chats = [[Message("user", "a"), Message("assistant", "1")], [Message("user", "b"), Message("assistant", "2")]]
    found = pairs_of(chats, ["1", "2", "3", "4", "5", "6"], seed=0)
    assert [pair.chosen for pair in found] == ["1"] * 3 + ["2"] * 3
    assert all(pair.chosen != pair.rejected for pair in found)
    assert len({pair.rejected for pair in found[:3]}) == 3
    assert [pair.rejected for pair in pairs_of(chats, ["1", "2"], seed=0)] == ["2", "1"]


def test_a_heads_answer_took_the_tokens_it_read(random_tiny):
    task = a_task()
    solver = finetuned(random_tiny, "head")(task, task.train[:4], 0)
    for question in ("a plum", "plum " * 400):
        _, [exchange] = run(traced(solver.program(question)), solver.backend)
        read = random_tiny.count_tokens([Message("user", question)])
        assert exchange.reply.usage.input_tokens == min(read, random_tiny.context_tokens)


# ---- texts far longer than any context


def test_the_end_of_a_text_is_the_most_that_fits():
    assert end_of("abcdef", lambda text: len(text) <= 4, 100) == "cdef"
    assert end_of("abc", lambda text: len(text) <= 4, 100) == "abc"
    assert end_of("abcdef", lambda text: False, 100) == ""


@pytest.mark.parametrize("arm", DEFAULT_ARMS)
def test_an_enormous_text_is_cut_or_counted_as_not_fitting_soon(random_tiny, arm):
    task = a_task(6, 2)
    huge = Example("apple pie and custard " * (HUGE // 22), "yes", "huge")
    with_it = Task.classification("t", [*task.train, huge], task.test, task.prompt.instruction)
    learner = ARMS[arm](random_tiny)
    started = time.process_time()
    found = answers(learner, with_it, 7, [huge.input, task.test[0].input])
    assert time.process_time() - started < 30
    assert isinstance(found[1], Answer)
    if arm.startswith("few-shot"):
        assert isinstance(found[0], ContextOverflow)
        assert f"{len(huge.input):,} characters" in str(found[0])
    else:
        assert found[0].value in task.labels


@pytest.mark.parametrize("arm", ["few-shot", "sft", "head"])
def test_a_text_a_little_longer_than_the_context_is_cut_or_an_overflow(random_tiny, arm):
    task = a_task(4, 2)
    [found] = answers(ARMS[arm](random_tiny), task, 4, ["plum " * 400])
    assert isinstance(found, ContextOverflow) if arm == "few-shot" else found.value in task.labels
