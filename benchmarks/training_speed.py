"""How fast the training loop is, beside nanoGPT's and Hugging Face's, on one thread; and what training takes.

Each pair is the same number of steps of both sides, one behind the other, and which is first alternates; a figure is
the median of the pairs' ratios of tokens a second of *CPU time*, which other work on the machine disturbs less than the
clock, with an interval of the median (of order statistics, 95 % or the range). nanoGPT is its own model.py, optimizer,
batches and step, eager and in float32, as its script trains on a processor; `--nanogpt DIR` is a checkout of it. Our
model of the same width and depth is Llama-shaped and has as many parameters, but for nanoGPT's learnt positions.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import finish, parser, row

from promptlab.tiny.data.stream import SHORT, Reading
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.precision import native_bf16
from promptlab.tiny.presets import PRESETS
from promptlab.tiny.pretrain import LONG, batches, learn_tokenizer
from promptlab.tiny.train import Recipe, next_token_loss, train

BABY = Config(vocab_size=96, d_model=128, n_layers=4, n_heads=4, d_ff=344, context=64)  # nanoGPT's README, on a CPU
MINI = Config(vocab_size=512, d_model=256, n_layers=8, n_heads=8, d_ff=688, context=256)
CPU_TIME = "one thread's CPU time"
NO_BF16 = "this processor has no bf16 arithmetic"

Side = Callable[[int], float]  # does some steps; the seconds of CPU time that each took


def per_step(ends: Sequence[float]) -> float:
    """From when each step ended; the first, which also prepares, does not count."""
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def ours(config: Config, rows: int, bf16: bool = False) -> Side:
    model = Transformer(config).initialise(torch.Generator().manual_seed(0))

    def batch_at(step: int) -> Any:
        ids = np.random.default_rng(step).integers(config.vocab_size, size=(rows, config.context + 1))
        return batches((ids, np.ones(ids.shape, np.float32)))

    def steps(n: int) -> float:
        ends: list[float] = []
        recipe = Recipe(n + 1, bf16=bf16)
        train(model, batch_at, next_token_loss, recipe, on_step=lambda *_: ends.append(time.process_time()))
        return per_step(ends)

    return steps


def by_pytorch(side: Side) -> Side:
    """The same without our own compiled layers."""

    def steps(n: int) -> float:
        os.environ["PROMPTLAB_COMPILE"] = "0"
        try:
            return side(n)
        finally:
            del os.environ["PROMPTLAB_COMPILE"]

    return steps


def nanogpts(folder: Path, config: Config, rows: int) -> Side:
    sys.path.insert(0, str(folder))
    theirs = importlib.import_module("model")
    sys.path.pop(0)
    T, V = config.context, config.vocab_size
    shape = {"n_layer": config.n_layers, "n_head": config.n_heads, "n_embd": config.d_model, "vocab_size": V}
    with contextlib.redirect_stdout(io.StringIO()):
        model = theirs.GPT(theirs.GPTConfig(block_size=T, dropout=0.0, bias=False, **shape))
        optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    data = np.random.default_rng(0).integers(V, size=100_000).astype(np.uint16)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        at = torch.randint(len(data) - T, (rows,))
        x, y = ([torch.from_numpy(data[i + d : i + d + T].astype(np.int64)) for i in at] for d in (0, 1))
        return torch.stack(x), torch.stack(y)

    def steps(n: int) -> float:
        ends: list[float] = []
        for _ in range(n + 1):
            x, y = read()
            _, loss = model(x, y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
            ends.append(time.process_time())
        return per_step(ends)

    return steps


def trainers(config: Config, rows: int) -> Side:
    """Hugging Face's Trainer, as it is by default, on its Llama of the same shape."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    shape = {"hidden_size": config.d_model, "intermediate_size": config.d_ff, "vocab_size": config.vocab_size}
    heads = {"num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads, "tie_word_embeddings": True}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, **heads))
    ids = np.random.default_rng(0).integers(config.vocab_size, size=(rows * 100, config.context))
    data = [{"input_ids": torch.from_numpy(line), "labels": torch.from_numpy(line)} for line in ids]

    class Ends(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.process_time())

    ends: list[float] = []

    def steps(n: int) -> float:
        ends.clear()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
            how = {"max_steps": n + 1, "per_device_train_batch_size": rows, "use_cpu": True, "bf16": False}
            arguments = transformers.TrainingArguments(folder, **how, **quiet)
            transformers.Trainer(model, arguments, train_dataset=data, callbacks=[Ends()]).train()
        return per_step(ends)

    return steps


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the median, from order statistics: of less than six values it is their range."""
    n, k = len(values), 0
    while 2 * sum(math.comb(n, i) for i in range(k + 2)) / 2**n < 0.05:
        k += 1
    return sorted(values)[k], sorted(values)[-1 - k]


def compared(name: str, a: Side, b: Side, quick: bool, target: float | None, note: str = CPU_TIME) -> dict[str, Any]:
    """How many times as fast as b a is."""
    pairs, n = (3, 2) if quick else (9, 6)
    a(1), b(1)
    ratios = []
    for i in range(pairs):
        took = {side: side(n) for side in ((a, b) if i % 2 else (b, a))}
        ratios.append(took[b] / took[a])
    low, high = interval(ratios)
    return row(name, statistics.median(ratios), "x", low=low, high=high, n=pairs, target=target, note=note)


def nano(quick: bool) -> dict[str, Any]:
    """From some steps of the preset with rows as short and as long as a run has them."""
    it = PRESETS["nano"]
    seconds = 0.0
    for size, share in ((SHORT, LONG), (it.config.context, 1 - LONG)):
        side = ours(replace(it.config, context=size), it.tokens_per_step // size, native_bf16())
        seconds += share * statistics.median(side(2) for _ in range(1 if quick else 5))
    note = f"extrapolated from {CPU_TIME} a step to two idle cores that share the work without loss"
    return row("nano, 10 minutes", 600 * 2 * it.tokens_per_step / seconds / 1e6, "M tokens", target=8, note=note)


def peak_of_mini() -> float:
    def now() -> float:  # of this process alone: what getrusage tells begins with the parent's
        [line] = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM")]
        return int(line.split()[1]) / 1e6

    before = now()
    ours(MINI, 8192 // MINI.context)(1)
    return now() - before


def memory() -> dict[str, Any]:
    """In a process of its own, in which torch is loaded and nothing else has been done."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as one:
        peak = one.submit(peak_of_mini).result()
    note = "peak above torch as loaded; 6.5 M parameters, steps of 8,192 tokens, float32"
    return row("mini, memory of training", peak, "GB", target=1, at_most=True, note=note)


def generator(quick: bool) -> dict[str, Any]:
    tokenizer = learn_tokenizer(0, 512, 300)
    reading = Reading(0, 1024, 0, 0)
    reading.rows(tokenizer, 0)
    start, n = time.process_time(), 2 if quick else 20
    tokens = sum(reading.rows(tokenizer, step)[0].size for step in range(1, n + 1))
    note = f"{CPU_TIME}; a small vocabulary, which makes more tokens of a text"
    return row("generator, a core", tokens / (time.process_time() - start), "tokens/s", n=n, note=note)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--nanogpt", type=Path, metavar="DIR", help="a checkout of github.com/karpathy/nanoGPT")
    given = options.parse_args()
    torch.set_num_threads(1)
    absent = None if given.nanogpt else "needs --nanogpt DIR, a checkout of it"
    rows = []
    for T, n, of in ((64, 12, "its CPU recipe"), (256, 8, "rows of 256")):
        config = replace(BABY, context=T)
        for bf16, target in ((False, 1.3), (True, 1.6)):
            name = f"nanoGPT's {of}, ours in {'bf16' if bf16 else 'float32'}"
            reason = absent or (NO_BF16 if bf16 and not native_bf16() else None)
            if reason:
                rows.append(row(name, None, "x", target=target, note=reason))
            else:
                theirs = nanogpts(given.nanogpt, config, n)
                rows.append(compared(name, ours(config, n, bf16), theirs, given.quick, target))
    config = replace(BABY, context=256)
    rows.append(compared("PyTorch's layers, float32", ours(config, 8), by_pytorch(ours(config, 8)), given.quick, None))
    rows.append(compared("Trainer's, float32", ours(config, 8), trainers(config, 8), given.quick, 1.5))
    rows += [nano(given.quick), memory(), generator(given.quick)]
    rows.append(row("utilisation of a GPU", None, "share", note="no GPU at hand"))
    rows.append(row("generator beside a GPU", None, "tokens/s", target=1e6, note="no GPU at hand"))
    finish(rows, given, packages=["torch", "transformers"])


if __name__ == "__main__":
    main()
