"""A classification head

To classify, a matrix W and a bias b are put on top of the transformer, a row a label. The text's hidden states are
pooled to one vector h (here their mean; BERT takes the state of its first token), and

    p(label | text) = softmax(W h + b)       h (C,), W (labels, C) -> (labels,)
    loss            = −log p(right label)

The worked example: two tokens with the states (1, 0) and (0, 1), so h = (0.5, 0.5), and W = ((1, 3), (2, 0)) give the
scores (2, 1), thus the probabilities 0.731 and 0.269.

**On the bundled model.** It learns which desk a field report belongs on: only the head, with the body as it was
pretrained (a linear probe of what h already holds), and then the whole model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from behaviours.figures import likeliest, share

from chapters.saying import Saying
from chapters.shown import BLUE, GREY, ORANGE, Shown, bars, panels, smooth, stated
from promptlab.backends.tiny import Tiny
from promptlab.compare.data.tables import examples_from, read_table
from promptlab.splits import split
from promptlab.tiny.head import Classifier, label_loss, train_head
from promptlab.tiny.train import Batch, Recipe
from promptlab.types import Example

REPORTS = Path(__file__).parents[2] / "promptlab" / "demo" / "outbreak_reports.csv"
WAYS = (("only the head", True, 2e-2, ORANGE), ("the whole model", False, 1e-3, BLUE))  # frozen body, rate


def worked() -> Shown:
    body = Saying(torch.eye(2))
    classifier = Classifier(body, ("a", "b"))
    with torch.no_grad():
        classifier.head.weight.copy_(torch.tensor([[1.0, 3.0], [2.0, 0.0]]))
        batch = Batch(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2), torch.tensor([0]))
        scores = classifier(batch)[0]
        p = torch.softmax(scores, dim=0)
        loss = float(label_loss(classifier, batch))
    return Shown(
        [
            *(stated(f"W h + b, label {i + 1}", float(scores[i]), "", figure) for i, figure in enumerate(("2", "1"))),
            *(
                stated(f"softmax, label {i + 1}", float(p[i]), "", figure)
                for i, figure in enumerate(("0.731", "0.269"))
            ),
            stated("loss if the first is right", loss, "nats", "0.313"),
        ]
    )


def reports(n_train: int, n_test: int) -> tuple[list[Example], list[Example]]:
    """Field reports with their desks, to learn from and held back."""
    train, test = split(examples_from(read_table(REPORTS), "report", "desk").examples, test_size=100)
    return list(train[:n_train]), list(test[:n_test])


def measure(tiny: Tiny, quick: bool) -> Shown:
    train, test = reports(96, 100)
    labels = sorted({str(e.target) for e in train})
    steps = 30 if quick else 120
    figure, (left, right) = panels(4.6, 4.0)
    rows = []
    for name, frozen, lr, colour in WAYS:
        losses: list[float] = []
        texts, targets = [str(e.input) for e in train], [str(e.target) for e in train]
        recipe = Recipe(steps, lr=lr, warmup=5, weight_decay=0.01)
        classifier = train_head(
            tiny.model, tiny.tokenizer, texts, targets, labels, frozen=frozen, recipe=recipe,
            on_step=lambda _, loss, losses=losses: losses.append(loss),
        )  # fmt: skip
        said = classifier.log_probabilities(tiny.tokenizer, [str(e.input) for e in test])
        right_ones = [likeliest(labels, p) == e.target for p, e in zip(said, test, strict=True)]
        rows.append(share(f"{len(train)} reports, {name} trained", right_ones, note=f"{steps} steps"))
        left.plot(smooth(losses), color=colour, label=name)
    left.set(title="−log p(right desk)", xlabel="step", ylabel="nats (mean of 5 steps)", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    bars(right, rows, [name for name, *_ in WAYS], [colour for *_, colour in WAYS])
    right.axhline(1 / len(labels), color=GREY, ls="--", lw=1)
    right.text(0.5, 1 / len(labels), "chance", color=GREY, ha="center", va="bottom", fontsize=9)
    right.set_title(f"{len(test)} reports held back")
    return Shown(rows, figure)
