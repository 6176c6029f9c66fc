"""Attention

A position holds its query q against the key k of every position that it may see. The scores, through a softmax, are
the weights by which it mixes their values v:

    scores  = Q Kᵀ / √D         (T, D) (D, S) -> (T, S)
    weights = softmax(scores)   each row sums to 1
    output  = weights V         (T, S) (S, D) -> (T, D)

Dot products grow with D, and a softmax of large scores looks at one position only; hence the division by √D. The
worked example leaves it out. Its query and keys are ours, chosen to give the lecture's scores; V is the identity, so
that the output shows the weights. Several heads do the same side by side, each on D = C / H channels of its own:

    x (B, T, C) -> q, k, v (B, H, T, D) -> weights (B, H, T, S) -> heads (B, H, T, D) -> side by side (B, T, C) -> · W_O

**On the bundled model.** It reads a few words that mean nothing, twice. Nothing but the first copy can tell it what
comes next in the second. Heads that look, from a token, at the one *behind* that token's earlier occurrence are
called induction heads (Olsson et al. 2022, arXiv 2209.11895). The picture shows the one that does so most, and how
much of their attention all heads spend there.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from behaviours.figures import Rows
from harness import row
from matplotlib.axes import Axes
from torch import Tensor

from chapters.shown import Shown, close, panels, stated
from promptlab.backends.tiny import Tiny
from promptlab.tiny.attention import attention_maps, dot_product_attention
from promptlab.tiny.data.chat import distinct, nonsense
from promptlab.tiny.model import Attention, Config, parameter_count, rotary, rotate
from promptlab.tiny.tokenizer import BOS


def worked() -> Shown:
    q, k = torch.tensor([[0.5, 0.4]]), torch.tensor([[0.2, 0.4], [0.6, 0.8]])  # (1, 2), (2, 2)
    found = dot_product_attention(q, k, torch.eye(2), scaled=False)
    scaled = dot_product_attention(q, k, torch.eye(2))
    rows = []
    for name, values, figures in (
        ("score", found.scores, ("0.26", "0.62")),
        ("weight, unscaled", found.weights, ("0.41", "0.59")),
        ("output, unscaled", found.output, ("0.41", "0.59")),
        ("weight, scaled by 1/√2", scaled.weights, ("0.44", "0.56")),
    ):
        rows += [stated(f"{name} {i + 1}", float(values[0, i]), "", figures[i]) for i in (0, 1)]
    return Shown([*rows, *several_heads()])


def several_heads() -> Rows:
    """Eight heads at once against one after the other, with the shapes of Vaswani et al. 2017."""
    config, B, T = Config(d_model=512, n_heads=8), 2, 5
    torch.manual_seed(0)
    module, x = Attention(config), torch.randn(B, T, 512)
    rope = rotary(torch.arange(T)[None], config.d_head, config.rope_theta)
    with torch.no_grad():
        whole = module(x, rope, None, True)  # (B, T, C)
        heads = []
        for h in range(config.n_heads):
            own = slice(h * config.d_head, (h + 1) * config.d_head)
            projections = (module.q_proj, module.k_proj, module.v_proj)
            q, k, v = (x @ p.weight[own].T for p in projections)  # (B, T, D) each
            q, k = (rotate(part[:, None], *rope)[:, 0] for part in (q, k))
            heads.append(dot_product_attention(q, k, v, causal=True).output)
        one_by_one = module.o_proj(torch.cat(heads, dim=-1))
    return [
        stated("multi-head, C 512, H 8: channels a head", heads[0].shape[-1], "channels", "64"),
        stated("numbers in W_Q, W_K, W_V, W_O", parameter_count(module), "parameters", "1048576", "4 C²"),
        close("heads one by one, then · W_O, against all at once", one_by_one, whole, 1e-5, f"{tuple(whole.shape)}"),
    ]


def twice(tiny: Tiny, rng: Random, n_words: int) -> tuple[Tensor, int]:
    """Words that mean nothing, twice in a row, as tokens (1, 1 + 2 P), and P."""
    words = distinct(rng, lambda: nonsense(rng, 2), n_words)
    once = tiny.tokenizer.encode("".join(f" {word}" for word in words))
    user = tiny.tokenizer.role["user"]
    return torch.tensor([[BOS, user, *once, *once]]), len(once)


def induction(maps: Tensor, period: int) -> Tensor:
    """Of maps (L, 1, H, T, T), the mean weight from a token's second copy on what stood behind its first, (L, H)."""
    at = torch.arange(maps.shape[-1] - period, maps.shape[-1])
    return maps[:, 0][:, :, at, at - period + 1].mean(-1)


def measure(tiny: Tiny, quick: bool) -> Shown:
    texts = [twice(tiny, Random(f"lecture/attention/{i}"), 6) for i in range(4 if quick else 32)]
    score = torch.stack([induction(attention_maps(tiny.model, tokens), period) for tokens, period in texts]).mean(0)
    layer, head = divmod(int(score.argmax()), score.shape[1])
    tokens, period = twice(tiny, Random("lecture/attention/picture"), 3)
    names = ["<bos>", "<user>", *(tiny.tokenizer.decode([t]).strip() or "␣" for t in tokens[0, 2:].tolist())]
    figure, (left, right) = panels(5.6, 3.6, height=4.8)
    draw_map(left, attention_maps(tiny.model, tokens)[layer, 0, head], names, period)
    left.set_title(f"Layer {layer + 1}, head {head + 1}")
    draw_scores(right, score)
    note = f"layer {layer + 1}, head {head + 1}; the mean head {float(score.mean()):.2f}"
    best = row("repeated text: best induction head", float(score.max()), "attention", n=len(texts), note=note)
    return Shown([best], figure)


def draw_map(axes: Axes, weights: Tensor, names: Sequence[str], period: int) -> None:
    """Who looks at whom, (T, T), with lines where the second copy begins."""
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.axhline(1.5 + period, color="#bbbbbb", lw=0.8)
    axes.axvline(1.5 + period, color="#bbbbbb", lw=0.8)
    axes.set(xlabel="looked at", ylabel="looks (below the line: second copy)")


def draw_scores(axes: Axes, score: Tensor) -> None:
    """A number for every head, (L, H)."""
    axes.imshow(score, cmap="Blues", vmin=0, vmax=1)
    for at, value in enumerate(score.flatten().tolist()):
        y, x = divmod(at, score.shape[1])
        ink = "white" if value > 0.5 else "black"
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(score.shape[1]), range(1, score.shape[1] + 1))
    axes.set_yticks(range(score.shape[0]), range(1, score.shape[0] + 1))
    axes.set(title="Attention to what came next before", xlabel="head", ylabel="layer")
