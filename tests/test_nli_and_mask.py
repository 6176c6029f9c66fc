"""Inference and gap filling are those of transformers' own pipelines, on random models of the real classes."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from studies import a_task

from promptlab import Message, ModelError, Reply, Request, Task, ask, in_context, model, run, score
from promptlab.errors import ContextOverflow, SetupError, Unsupported
from promptlab.learners import arms_named, default_arms, zero_shot_nli
from promptlab.strategies import entailed_label
from promptlab.testing import Script

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TEXTS = ["The patient has a cough and fever.", "a rash", "Chest pain since two days, worse at night, no cough."]
LABELS = ["cough", "skin trouble", "heart"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tokenizers import BertWordPieceTokenizer

    learnt = BertWordPieceTokenizer()
    learnt.train_from_iterator(
        [*TEXTS, *LABELS, "This example is .", "It is about the ."] * 20, vocab_size=150, min_frequency=1
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    learnt.save_model(str(folder))
    return transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64)


def saved(folder: Path, kind: str, tokenizer: Any, **config: Any) -> str:
    """A random BERT of a class of transformers."""
    import torch

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    made = transformers.BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **shape, **config)
    getattr(transformers, kind)(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=[0, 2], ids=["entailment first", "entailment last"])
def nli_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> str:
    classes = ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"]
    names = dict(enumerate(classes if request.param == 0 else classes[::-1]))
    ids = {name: i for i, name in names.items()}
    folder = tmp_path_factory.mktemp("nli")
    return saved(folder, "BertForSequenceClassification", tokenizer, id2label=names, label2id=ids)


@pytest.fixture(scope="module")
def mask_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> str:
    return saved(tmp_path_factory.mktemp("mask"), "BertForMaskedLM", tokenizer)


# ---- inference


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2], LABELS[:1]], ids=len)
def test_scores_are_those_of_the_zero_shot_pipeline(nli_folder: str, labels: list[str]):
    pipeline = transformers.pipeline("zero-shot-classification", model=nli_folder, device="cpu")
    backend = model(f"hf-nli:{nli_folder}")
    hypotheses = tuple(f"This example is {label}." for label in labels)
    replies = backend.generate([Request((Message("user", text),), continuations=hypotheses) for text in TEXTS])
    for text, reply in zip(TEXTS, replies, strict=True):
        said = pipeline(text, candidate_labels=labels)
        expected = dict(zip(said["labels"], said["scores"], strict=True))
        # The pipeline reads each pair in another batch, and logits as large as a random model's round by 1e-6 and more.
        assert [math.exp(p) for p in reply.scores] == pytest.approx([expected[label] for label in labels], abs=1e-5)
        assert reply.usage.input_tokens > len(labels)


def test_the_answer_is_the_label_entailed_most_with_any_hypothesis(nli_folder: str):
    pipeline = transformers.pipeline("zero-shot-classification", model=nli_folder, device="cpu")
    backend = model(f"hf-nli:{nli_folder}")
    for hypothesis in ("This example is {}.", "It is about the {}."):
        answers = run([entailed_label(text, LABELS, hypothesis) for text in TEXTS], backend)
        told = [pipeline(text, candidate_labels=LABELS, hypothesis_template=hypothesis) for text in TEXTS]
        assert [answer.value for answer in answers] == [each["labels"][0] for each in told]
        assert set(answers[0].scores) == set(LABELS)


def test_as_a_learner_it_looks_at_no_example(nli_folder: str):
    backend, task = model(f"hf-nli:{nli_folder}"), a_task(8, 4)
    learner = zero_shot_nli(backend)
    answers = [
        run([s.program(e.input) for e in task.test], s.backend)
        for s in (learner(task, task.train[:k], 0) for k in (0, 8))
    ]
    assert answers[0] == answers[1]
    assert not learner.draws_without_labels
    assert list(default_arms(backend)[0]) == ["majority", "tfidf", "nli"]


def test_a_text_that_is_too_long_fails_in_its_place(nli_folder: str):
    asked = [Request((Message("user", text),), continuations=("a", "b")) for text in ("rash", "cough " * 200, "rash")]
    first, failed, last = model(f"hf-nli:{nli_folder}").generate(asked)
    assert isinstance(failed, ContextOverflow)
    assert first == last
    assert model(f"hf-nli:{nli_folder}").generate([]) == []


def test_half_a_surrogate_pair_is_read_as_an_unreadable_character(nli_folder: str):
    asked = [Request((Message("user", f"rash {half}"),), continuations=(f"a {half}",)) for half in ("\ud83d", "\ufffd")]
    one, other = model(f"hf-nli:{nli_folder}").generate(asked)
    assert isinstance(one, Reply)
    assert isinstance(other, Reply)
    assert one.scores == pytest.approx(other.scores, abs=1e-5)  # places in a batch may round otherwise
    assert one.usage == other.usage


def test_special_tokens_in_a_text_are_text(nli_folder: str):
    backend = model(f"hf-nli:{nli_folder}")
    [typed, plain] = [run(score(text, ["a", "b"]), backend) for text in ("cough [SEP] rash", "cough rash")]
    read = backend.generate([Request((Message("user", "cough [SEP] rash"),), continuations=("a",))])[0].usage
    assert read.input_tokens > len(backend.tokenizer("cough [SEP] rash", "a").input_ids)
    assert typed != plain


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda nli, mask: run(ask("cough"), model(f"hf-nli:{nli}")), "writes nothing"),
        (lambda nli, mask: run(entailed_label("x", LABELS, "about"), model(f"hf-nli:{nli}")), "hypothesis with {}"),
        (lambda nli, mask: run(entailed_label("x", LABELS[:1]), model(f"hf-nli:{nli}")), "two labels"),
        (lambda nli, mask: in_context(model(f"hf-nli:{nli}")), "takes no prompts"),
        (lambda nli, mask: in_context(model(f"hf-mask:{mask}")), "takes no prompts"),
        (lambda nli, mask: arms_named(["nli"], model("tiny")), "not trained on inference"),
        (lambda nli, mask: zero_shot_nli(Script(["x"])), "not trained on inference"),
        (lambda nli, mask: model(f"hf-nli:{mask}"), "has no weights for"),
        (lambda nli, mask: model(f"hf-mask:{nli}"), "has no weights for"),
        (lambda nli, mask: model(f"hf:{nli}"), "has no weights for"),
        (lambda nli, mask: model(f"hf:{mask}"), "reads texts in both directions"),
        (lambda nli, mask: model("hf-nli:/nowhere"), "cannot be loaded"),
        (lambda nli, mask: model("hf-mask:/nowhere"), "cannot be loaded"),
        (lambda nli, mask: run(ask("a [MASK]", temperature=1.0), model(f"hf-mask:{mask}")), "a temperature"),
    ],
)
def test_what_makes_no_sense_is_said(nli_folder: str, mask_folder: str, make: Any, told: str):
    with pytest.raises(SetupError, match=told):
        make(nli_folder, mask_folder)


def test_a_classifier_of_something_else_is_refused(tmp_path: Path, tokenizer: Any):
    with pytest.raises(SetupError, match="its classes are label_0, label_1"):
        model(f"hf-nli:{saved(tmp_path, 'BertForSequenceClassification', tokenizer)}")


def test_they_can_be_sent_to_another_process(nli_folder: str, mask_folder: str):
    for spec, text in ((f"hf-nli:{nli_folder}", "rash"), (f"hf-mask:{mask_folder}", "a [MASK]")):
        backend = model(spec)
        again = pickle.loads(pickle.dumps(backend))
        assert run(score(text, ["cough", "the rash"]), again) == run(score(text, ["cough", "the rash"]), backend)


def test_inference_refuses_replies_as_unsupported(nli_folder: str):
    with pytest.raises(Unsupported):
        model(f"hf-nli:{nli_folder}").generate([Request((Message("user", "hi"),))])


# ---- gaps


def test_the_likeliest_tokens_are_those_of_the_fill_mask_pipeline(mask_folder: str):
    pipeline = transformers.pipeline("fill-mask", model=mask_folder, device="cpu")
    backend = model(f"hf-mask:{mask_folder}")
    for text in ("The patient has a [MASK] and fever.", "[MASK] pain", "no [MASK]"):
        expected = pipeline(text, top_k=5)
        found = backend.top(text)
        assert [token.text for token in found] == [each["token_str"] for each in expected]
        assert [math.exp(t.logprob) for t in found] == pytest.approx([each["score"] for each in expected], abs=1e-6)
        assert run(ask(text), backend).text == expected[0]["token_str"]


def test_candidates_score_as_the_pipelines_targets_do(mask_folder: str):
    pipeline = transformers.pipeline("fill-mask", model=mask_folder, device="cpu")
    backend = model(f"hf-mask:{mask_folder}")
    texts, words = ["a [MASK] at night", "The patient has a [MASK] and fever."], ["cough", "rash", "fever"]
    scored = run([score(text, words) for text in texts], backend)
    for text, found in zip(texts, scored, strict=True):
        expected = {each["token_str"]: each["score"] for each in pipeline(text, targets=words)}
        assert [math.exp(p) for p in found] == pytest.approx([expected[word] for word in words], abs=1e-6)


def test_a_candidate_of_several_tokens_is_read_in_as_many_masks(mask_folder: str):
    import torch

    backend = model(f"hf-mask:{mask_folder}")
    ids = backend.tokenizer("a [MASK] [MASK] at night", return_tensors="pt").input_ids
    log_p = backend.model(input_ids=ids).logits[0].log_softmax(-1)
    tokens = backend.tokenizer.encode("chest pain", add_special_tokens=False)
    assert len(tokens) == 2
    with torch.inference_mode():
        expected = float(log_p[2, tokens[0]] + log_p[3, tokens[1]])
    assert run(score("a [MASK] at night", ["rash", "chest pain"]), backend)[1] == pytest.approx(expected, abs=1e-5)


def test_texts_without_one_gap_fail_in_their_place(mask_folder: str):
    asked = [Request((Message("user", t),)) for t in ("a [MASK]", "none", "[MASK] [MASK]", "x " * 100 + "[MASK]")]
    fine, none, two, long = model(f"hf-mask:{mask_folder}").generate(asked)
    assert fine.text
    assert fine.usage.output_tokens == 1
    assert "no gap to fill" in str(none)
    assert "2 gaps" in str(two)
    assert isinstance(long, ContextOverflow)
    with pytest.raises(ContextOverflow):
        model(f"hf-mask:{mask_folder}").top("x " * 100 + "[MASK]")
    assert len(model(f"hf-mask:{mask_folder}").top("[MASK]", 10**6)) > 50
    with pytest.raises(ModelError, match="no gap"):
        model(f"hf-mask:{mask_folder}").top("none")
    [nothing] = model(f"hf-mask:{mask_folder}").generate([Request((Message("user", "a [MASK]"),), continuations=("",))])
    assert "cannot fill a gap" in str(nothing)


def test_only_its_own_mask_is_special_in_a_text_with_a_gap(mask_folder: str):
    backend = model(f"hf-mask:{mask_folder}")
    typed, plain = "cough [SEP] [PAD] [MASK]", "cough [MASK]"
    [first, second] = backend.generate([Request((Message("user", text),)) for text in (typed, plain)])
    assert first.usage.input_tokens == second.usage.input_tokens + len(
        backend.tokenizer.encode("[SEP] [PAD]", add_special_tokens=False, split_special_tokens=True)
    )
    [scored] = backend.generate([Request((Message("user", plain),), continuations=("[SEP]",))])
    masks = len(backend.tokenizer.encode("[SEP]", add_special_tokens=False, split_special_tokens=True))
    assert masks > 1
    assert scored.usage.input_tokens == second.usage.input_tokens - 1 + masks


def test_a_study_may_have_an_arm_that_infers(nli_folder: str, tmp_path: Path):
    from promptlab import compare

    task: Task = a_task(8, 6)
    arms = arms_named(["nli", "tfidf"], model(f"hf-nli:{nli_folder}"))
    results = compare(arms, task, ks=[0, 4], seeds=2, out=tmp_path / "run", jobs=1)
    assert results["decision"]["sentence"]
