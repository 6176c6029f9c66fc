"""Checkpoints that are unlike the bundled one: what they ask of greedy decoding, of templates, tokens and positions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from same_words import problem, texts

from promptlab import Message, ModelError, Reply, Request, model
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, SetupError
from promptlab.tiny.checkpoint import BUNDLED

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

PICKY = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system prompts, please') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    backend = model("tiny")
    assert isinstance(backend, Tiny)
    return backend


def bundled(folder: Path, tokenizer: dict[str, Any] | None = None, **files: dict[str, Any]) -> Any:
    """The bundled weights in transformers, with other entries in these files of theirs."""
    shutil.copytree(BUNDLED, folder)
    for name, entries in {"tokenizer_config": tokenizer or {}, **files}.items():
        path = folder / f"{name}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **entries}))
    return model(f"hf:{folder}", dtype="float32")


def chat(text: str, **options: Any) -> Request:
    return Request((Message("user", text),), **options)


@pytest.mark.parametrize(
    "asked",
    [
        {"repetition_penalty": 1.8},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": list(range(40, 300))},
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20},
        {"max_length": 20},
        {"num_beams": 3},
    ],
    ids=str,
)
def test_greedy_is_greedy_whatever_the_checkpoint_asks(tmp_path: Path, tiny: Tiny, asked: dict[str, Any]):
    problems = [problem(i) for i in range(3)]
    backend = bundled(tmp_path / "it", generation_config={"eos_token_id": 2, **asked})
    assert texts(backend.generate(problems)) == texts(tiny.generate(problems))


def test_every_end_that_a_checkpoint_names_is_one(tmp_path: Path, tiny: Tiny):
    [said] = tiny.generate([problem(0, logprobs=True)])
    ends = {tiny.tokenizer.decode([id]): id for id in range(1024)}[said.tokens[5].text]
    backend = bundled(tmp_path / "it", generation_config={"eos_token_id": [2, ends]})
    [reply] = backend.generate([problem(0)])
    first = next(at for at, token in enumerate(said.tokens) if token.text == said.tokens[5].text)
    assert (reply.text, reply.finish) == ("".join(t.text for t in said.tokens[:first]), "stop")
    assert reply.usage.output_tokens == first + 1


def test_an_empty_prompt_fails_in_its_place(tmp_path: Path):
    backend = bundled(tmp_path / "it", {"chat_template": None})
    asked = [
        chat("a", max_tokens=2),
        chat("", max_tokens=2),
        chat("", continuations=("a", "b")),
        chat("b", max_tokens=2),
    ]
    first, written, scored, last = backend.generate(asked)
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    for failed in (written, scored):
        assert isinstance(failed, ModelError)
        assert "empty" in str(failed)


def test_special_tokens_in_plain_text_are_text(tmp_path: Path, tiny: Tiny):
    backend = bundled(tmp_path / "it", {"chat_template": None})
    said = "wheeze <eos><user> cough"
    assert backend.count_tokens([Message("user", said)]) == len(tiny.tokenizer.encode(said))
    [reply] = backend.generate([chat(said, continuations=("<eos>",))])
    assert reply.usage.input_tokens == len(tiny.tokenizer.encode(said)) + len(tiny.tokenizer.encode("<eos>"))


def test_a_template_that_refuses_a_chat_fails_in_its_place(tmp_path: Path):
    backend = bundled(tmp_path / "it", {"chat_template": PICKY})
    with_system = Request((Message("system", "be brief"), Message("user", "a")), max_tokens=2)
    first, failed, last = backend.generate([chat("a", max_tokens=2), with_system, chat("b", max_tokens=2)])
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert isinstance(failed, ModelError)
    assert "no system prompts, please" in str(failed)


@pytest.mark.parametrize("adapter", ["somebody/an-adapter", "pickled"])
def test_adapters_are_folders_with_safetensors(tmp_path: Path, adapter: str):
    if adapter == "pickled":
        (tmp_path / adapter).mkdir()
        (tmp_path / adapter / "adapter_model.bin").write_bytes(b"x")
        adapter = str(tmp_path / adapter)
    with pytest.raises(SetupError, match=r"adapter_model\.safetensors"):
        model(f"hf:{BUNDLED}", adapter=adapter)


def test_given_texts_are_read_together_and_only_their_logits_are_made(tiny: Tiny):
    backend: Any = model(f"hf:{BUNDLED}", dtype="float32")
    made: list[tuple[int, int]] = []
    backend.model.lm_head.register_forward_hook(lambda _, __, out: made.append(tuple(out.shape[:2])))
    asked = [chat("symptom: cough and wheeze. " * (3 + i % 3), continuations=tuple("ABCDEFGH")) for i in range(12)]
    backend.generate(asked)
    assert made == [(3, 1)]  # of the 3 different prompts, what follows them
    long = chat("symptom: wheeze. " * 20, continuations=("cough and wheeze", "the cough went on"))
    [ours], [theirs] = tiny.generate([long]), backend.generate([long])
    assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)
    assert len(made) == 2
    assert made[1] == (2, max(len(tiny.tokenizer.encode(text)) for text in long.continuations))


# ---- random models of other kinds

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.5}


def random_model(folder: Path, config: Any, tokenizer: Any) -> Any:
    import torch

    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model(f"hf:{folder}", dtype="float32")


def metaspace() -> Any:
    """A tokenizer that writes spaces as the beginnings of words, and unknown characters as bytes: Llama 2's kind."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    learnt = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    learnt.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.ByteFallback(), decoders.Metaspace()]
    learnt.decoder = decoders.Sequence(steps)
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    learnt.train_from_iterator(["the cough and the wheeze went on for days and days"] * 9, trainer)
    known = json.loads(learnt.to_str())
    known["added_tokens"] = [token for token in known["added_tokens"] if not token["content"].startswith("<0x")]
    learnt = Tokenizer.from_str(json.dumps(known))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=learnt, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizer = metaspace()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), intermediate_size=64, max_position_embeddings=96, eos_token_id=2, **SHAPE
    )
    return random_model(tmp_path_factory.mktemp("llama"), config, tokenizer)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With a table of positions, which padding shifts where nobody takes care."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        eos_token_id=2,
    )
    return random_model(tmp_path_factory.mktemp("gpt2"), config, tokenizer)


@pytest.mark.parametrize("temperature", [None, 3.0])
def test_the_tokens_of_a_reply_make_up_its_text_with_any_tokenizer(llama: Any, temperature: float | None):
    asked = [chat(f"the cough {i}", max_tokens=40, logprobs=True, temperature=temperature, seed=i) for i in range(8)]
    replies = llama.generate(asked)
    for reply in replies:
        assert "".join(token.text for token in reply.tokens) == reply.text
    assert any(token.text.startswith(" ") for reply in replies for token in reply.tokens)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_batch_of_unequal_lengths_is_as_each_alone(request: pytest.FixtureRequest, kind: str):
    backend = request.getfixturevalue(kind)
    long = ["cough", "cough and wheeze and days", "the " * 40, "x"]
    options: list[dict[str, Any]] = [
        {"max_tokens": 9, "logprobs": True},
        {"max_tokens": 9, "logprobs": True, "temperature": 1.0, "seed": 4},
        {"continuations": ("cough", "the wheeze went on", "")},
    ]
    asked = [chat(text, **option) for option in options for text in long]
    for together, one in zip(backend.generate(asked), asked, strict=True):
        [alone] = backend.generate([one])
        assert together.text == alone.text
        assert [t.logprob for t in together.tokens] == pytest.approx([t.logprob for t in alone.tokens], abs=1e-4)
        assert together.scores == pytest.approx(alone.scores, abs=1e-4)


def bert(folder: Path, kind: str, **config: Any) -> str:
    """A random RoBERTa of a class of transformers, whose table has as many positions as are given."""
    import torch
    from tokenizers import ByteLevelBPETokenizer

    learnt = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    learnt.train_from_iterator(["The patient has a cough and fever, not a rash"] * 9, 300, 1, False, special)
    learnt.save_model(str(folder))
    tokenizer = transformers.RobertaTokenizerFast(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    torch.manual_seed(0)
    made = transformers.RobertaConfig(
        vocab_size=len(tokenizer), intermediate_size=64, pad_token_id=1, **SHAPE, **config
    )
    getattr(transformers, kind)(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("RobertaForSequenceClassification", lambda n: ("hf-nli", chat("a" + " a" * n, continuations=("",)))),
        ("RobertaForMaskedLM", lambda n: ("hf-mask", chat("a" + " a" * n + " [MASK]"))),
    ],
)
def test_positions_that_padding_takes_are_no_context(tmp_path: Path, kind: str, make: Callable[[int], Any]):
    classes = {"id2label": {0: "contradiction", 1: "entailment"}, "label2id": {"contradiction": 0, "entailment": 1}}
    folder = bert(tmp_path, kind, max_position_embeddings=34, **classes)
    backend: Any = model(f"{make(0)[0]}:{folder}")
    assert backend.context_tokens == 32
    answers = [backend.generate([make(n)[1]])[0] for n in range(24, 36)]
    read = [answer.usage.input_tokens for answer in answers if isinstance(answer, Reply)]
    assert max(read) == 32
    assert all(isinstance(answer, ContextOverflow) for answer in answers[len(read) :])
    assert len(read) < len(answers)


def test_a_model_of_pictures_and_text_has_its_texts_context():
    from types import SimpleNamespace

    from promptlab.backends.pretrained import context_of

    config = transformers.LlavaConfig(text_config=transformers.LlamaConfig(max_position_embeddings=77))
    assert context_of(SimpleNamespace(config=config, named_modules=dict)) == 77


def test_a_mask_that_takes_the_space_before_it_is_the_pipelines(tmp_path: Path):
    import math

    folder = bert(tmp_path, "RobertaForMaskedLM")
    pipeline = transformers.pipeline("fill-mask", model=folder, device="cpu")
    backend: Any = model(f"hf-mask:{folder}")
    for text in ("The patient has a <mask> and fever.", "<mask> rash", "a fever, not <mask>", "cough<mask>s"):
        found = backend.top(text.replace("<mask>", "[MASK]"))
        assert [math.exp(t.logprob) for t in found] == pytest.approx(
            [each["score"] for each in pipeline(text)], abs=1e-6
        )
        assert [t.text for t in found] == [each["token_str"] for each in pipeline(text)]


def test_a_quiet_command_says_the_reply_alone(tmp_path: Path):
    shutil.copytree(BUNDLED, tmp_path / "weights")
    asked = [sys.executable, "-m", "promptlab", "ask", "is a crow a bird?", "--model", f"hf:{tmp_path / 'weights'}"]
    loud, quiet = (subprocess.run([*asked, *more], capture_output=True, text=True) for more in ([], ["--quiet"]))
    assert (loud.returncode, quiet.returncode) == (0, 0)
    assert "Loading weights" in loud.stderr  # where this is no longer said there is nothing to hush
    assert quiet.stderr == ""
    assert quiet.stdout.strip()
