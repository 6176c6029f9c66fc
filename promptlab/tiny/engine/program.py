"""The engine's arithmetic by code of our own (`arithmetic.c`), where there is a compiler, for models in float32.

What comes out of a token is a function of it and of those before it alone, to the bit, whatever is beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, byref

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from promptlab.tiny.engine.compiling import HOW, LANES, SLICE, Layer, Model, Weight, library
from promptlab.tiny.engine.narrow import BITS, packed
from promptlab.tiny.engine.row import Row, Said
from promptlab.tiny.engine.store import Blocks, Places
from promptlab.tiny.engine.weights import Weights, room
from promptlab.tiny.threads import in_parts
from promptlab.tiny.tokenizer import EOS

WIDEST = 4096  # inputs of a matrix of fewer bits, of which a panel is widened on the stack: 1 MB with AVX512
A_THREAD = 6  # replies, or texts to read, that are worth another one
FEWEST, MOST = 11, 32  # replies that a thread writes together


def program(weights: Weights) -> Program | None:
    """None where there is no compiler, or no code for models of this shape, type or device."""
    c = weights.config
    fits = weights.dtype == torch.float32 and not any(n % LANES for n in (c.d_model, c.d_head, c.d_ff))
    fits &= weights.kept == "float32" or max(c.d_model, c.d_ff) <= WIDEST
    made = library() if fits and weights.device.type == "cpu" else None
    return None if made is None else Program(weights, made)


class Program:
    """Weights as the compiled functions take them, and those functions."""

    def __init__(self, weights: Weights, library: CDLL):
        self.config, self.library = (c := weights.config), library
        turns = torch.view_as_real(weights.turns).contiguous()
        matrices = [each for layer in weights.layers for each in layer] + [weights.unembedding]
        self.held = [weights.embedding, turns]  # what pointers point to
        laid = self.laid(matrices, BITS[weights.kept])
        layers = (Layer * c.n_layers)(*(Layer(*laid[4 * i : 4 * i + 4]) for i in range(c.n_layers)))
        of_layers = (c.n_layers, c.n_heads, c.d_head, c.d_ff, c.norm_eps)
        tables = (weights.embedding.data_ptr(), turns.data_ptr())
        self.of = Model(*of_layers, *tables, layers, laid[-1])
        self.model = byref(self.of)
        # As many as make a step read about as much of what they see as of matrices: fewer read those too often, more
        # leave no room for them in the caches. By wide vectors, which multiply so much faster, there have to be more.
        self.rows = min(max(c.d_model // 12, FEWEST, self.library.width()), MOST)

    def laid(self, matrices: Sequence[Tensor], bits: int) -> list[Weight]:
        """In panels, all in one piece, for huge pages."""
        width = self.library.panel()
        sizes = [
            inputs * (-(-outputs // width) * width) * bits // 32 for inputs, outputs in (m.shape for m in matrices)
        ]
        panels = torch.split(room(sum(sizes), dtype=torch.float32), sizes)
        found = []
        for matrix, panel in zip(matrices, panels, strict=True):
            numbers, scales = packed(F.pad(matrix, (0, -matrix.shape[1] % width)), bits)
            per_panel = numbers.view(len(numbers), -1, width).transpose(0, 1)  # (N / width, K bits / 32, width)
            panel.view(per_panel.shape).view(numbers.dtype).copy_(per_panel)
            self.held += [panel, scales]
            found.append(Weight(panel.data_ptr(), *matrix.shape, bits, scales.data_ptr()))
        return found

    def forward(self, blocks: Blocks, texts: Sequence[Text]) -> Tensor:
        """Normed hidden states, (tokens, C), of all texts' tokens, which see what is before them in their blocks."""
        starts = np.cumsum([0, *(len(text.ids) for text in texts)])
        tokens = np.empty((starts[-1], 3), dtype=np.int64)
        for text, start, end in zip(texts, starts, starts[1:], strict=False):
            tokens[start:end, 0] = text.ids
            tokens[start:end, 1] = np.arange(text.start, text.start + len(text.ids))
            tokens[start:end, 2] = text.blocks.ctypes.data
        hidden = torch.empty(len(tokens), self.config.d_model)
        seen = max((text.start + len(text.ids) for text in texts), default=0)

        def part(first: int, last: int) -> None:
            here = slice(starts[first], starts[last])
            space = self.space(len(tokens[here]), seen)
            self.library.forward(
                self.model, blocks.memory, len(tokens[here]), tokens[here].ctypes.data, seen, space.data_ptr(),
                hidden[here].data_ptr(),
            )  # fmt: skip

        in_parts(part, len(texts), A_THREAD)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, (N, V), for normed hidden states (N, C)."""
        made = torch.empty(len(hidden), self.config.vocab_size)
        self.library.scores(self.model, len(hidden), hidden.data_ptr(), made.data_ptr())
        return made

    def said(self, hidden: Tensor, ids: Sequence[int]) -> Tensor:
        """log p of ids (n) by the hidden states (n, C) before them."""
        asked, log_p = np.array(ids, dtype=np.int64), torch.empty(len(ids))
        logits = torch.empty(min(len(ids), SLICE), self.config.vocab_size)
        self.library.said(
            self.model, len(ids), hidden.data_ptr(), asked.ctypes.data, logits.data_ptr(), log_p.data_ptr()
        )
        return log_p

    def draw(self, logits: Tensor, rows: Sequence[Row], of: Sequence[int] | None = None) -> list[Said]:
        """A token of each row by scores (N, V): its own, else those `of` a number, rows of one being in a row."""
        drawn, space = Drawn(rows, range(len(rows)) if of is None else of, 1), self.space(1, 0)
        self.library.draws(
            self.model, len(rows), drawn.of.ctypes.data, drawn.how.ctypes.data, drawn.u.ctypes.data, space.data_ptr(),
            logits.data_ptr(), drawn.tokens.ctypes.data, drawn.log_p.ctypes.data,
        )  # fmt: skip
        return drawn.said(1)

    def go_on(self, blocks: Blocks, stems: Sequence[Sequence[Row]], tables: Sequence[Places]) -> list[Said]:
        """Reads the last token of every stem, the same of all its rows, which each draw the next, and so on for some,
        until a row has ended or parted from others.
        """
        found: dict[int, list[Said]] = {}

        def part(first: int, last: int) -> None:
            found[first] = self.some(blocks, stems[first:last], tables[first:last])

        in_parts(part, len(stems), A_THREAD)
        return [said for first in sorted(found) for said in found[first]]

    def some(self, blocks: Blocks, stems: Sequence[Sequence[Row]], tables: Sequence[Places]) -> list[Said]:
        n, c = len(stems), self.config
        tokens = np.array(
            [(rows[0].ids[-1], len(rows[0].prompt) + len(rows[0].ids) - 1, table.ctypes.data)
             for rows, table in zip(stems, tables, strict=True)], dtype=np.int64)  # fmt: skip
        rows, of = [row for rows in stems for row in rows], [k for k, rows in enumerate(stems) for _ in rows]
        drawn = Drawn(rows, of, min(row.unseen for row in rows))
        seen = int(tokens[:, 1].max()) + len(drawn.u)
        space = self.space(n, seen)
        hidden, logits = torch.empty(n, c.d_model), torch.empty(n, c.vocab_size)
        done = self.library.go_on(
            self.model, blocks.memory, n, tokens.ctypes.data, len(rows), drawn.of.ctypes.data, drawn.how.ctypes.data,
            drawn.u.ctypes.data, len(drawn.u), EOS, seen, space.data_ptr(), hidden.data_ptr(), logits.data_ptr(),
            drawn.tokens.ctypes.data, drawn.log_p.ctypes.data,
        )  # fmt: skip
        return drawn.said(done)

    def space(self, n: int, seen: int) -> Tensor:
        return torch.empty(self.library.space_for(self.model, n, seen))


class Text:
    """Tokens to read from position `start` on; `blocks` are those of all positions up to their end."""

    __slots__ = ("blocks", "ids", "start")

    def __init__(self, ids: Sequence[int], start: int, blocks: Places):
        self.ids, self.start, self.blocks = ids, start, blocks


class Drawn:
    """How up to `most` tokens of rows are drawn, `of` whose scores, and room for them and their log p, (most, rows)."""

    def __init__(self, rows: Sequence[Row], of: Sequence[int], most: int):
        self.of = np.array(of, dtype=np.int64)
        self.allowed = [None if row.held is None else row.held.allowed() for row in rows]
        may = (0 if each is None else each.ctypes.data for each in self.allowed)
        of_each = [(row.request.temperature or 0.0, row.request.top_p) for row in rows]
        self.how = np.array([(*how, at) for how, at in zip(of_each, may, strict=True)], dtype=HOW)
        self.u = np.stack([row.uniforms[len(row.ids) : len(row.ids) + most] for row in rows], axis=1)
        self.tokens = np.empty((most, len(rows)), dtype=np.int64)
        self.log_p = np.empty((most, len(rows)), dtype=np.float32)

    def said(self, done: int) -> list[Said]:
        """Of each row, as many as were drawn."""
        return list(zip(self.tokens[:done].T.tolist(), self.log_p[:done].T.tolist(), strict=True))
