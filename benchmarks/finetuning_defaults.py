"""How the defaults of fine-tuning were chosen: learning rate and epochs, on tasks that no result is reported on.

    python benchmarks/finetuning_defaults.py [--quick] [--json FILE]

Development tasks: field reports with another rule than the demonstration's (other symptoms, other exception), and,
where at hand, the development file of nicta_piboso (never its train or test). Every accuracy is a mean over two draws
of k labels.
"""

from __future__ import annotations

from random import Random

from harness import DATA, finish, options, row

from promptlab import Task, model
from promptlab.compare.answering import one_thread
from promptlab.compare.data.splits import label_budgets, split
from promptlab.demo.make import BOTH
from promptlab.learners.in_context import in_both_ways
from promptlab.runners import run
from promptlab.tiny.data.world import sentence
from promptlab.tiny.head import train_head
from promptlab.tiny.sft import sft, steps_for
from promptlab.tiny.train import Recipe
from promptlab.types import Example, Message

RULE = {"joint": "north", "head": "south", "heat": "west"}


def other_rule(n: int) -> list[Example]:
    """Field reports whose desk goes by symptom, but by smoke where there is some."""
    rng = Random("development")
    found: dict[str, str] = {}
    while len(found) < n:
        symptom = rng.choice(list(RULE))
        smoke = rng.random() < 0.28
        exposure = "smoke" if smoke else rng.choice(("water", "food", "insect", "animal"))
        found[sentence(rng, {"symptom": symptom, "exposure": exposure}, rng.choice(BOTH))] = (
            "east" if smoke else RULE[symptom]
        )
    return [Example(text, label, f"development:{i}") for i, (text, label) in enumerate(found.items())]


def tasks() -> list[Task]:
    made = [("other rule", other_rule(400))]
    path = DATA / "nicta_piboso" / "dev_clean.txt"
    if path.exists():
        from promptlab.compare.data.tables import examples_from, read_table

        made.append(("nicta dev", list(examples_from(read_table(path, "sections"), "text", "label", "group").examples)))
    found = []
    for name, examples in made:
        train, test = split(examples, test_size=200, seed=0)
        found.append(Task.classification(name, train, test))
    return found


def accuracy(task: Task, method: str, k: int, lr: float, epochs: int, seed: int) -> float:
    """Test accuracy of one fine-tuning."""
    from promptlab.backends.tiny import Tiny, TinyClassifier

    base = model("tiny")
    assert isinstance(base, Tiny)
    examples = label_budgets(task.train, [k], seed)[k]
    recipe = Recipe(steps_for(k, epochs), lr=lr, warmup=10, weight_decay=0.01)
    if method == "sft":
        chats = [[*task.prompt.render(e.input), Message("assistant", str(e.target))] for e in examples]
        tuned = Tiny.of(sft(base.model, base.tokenizer, chats, seed, recipe), base.tokenizer)
    else:
        inputs, targets = [e.input for e in examples], [str(e.target) for e in examples]
        classifier = train_head(base.model, base.tokenizer, inputs, targets, task.labels, seed, recipe=recipe)
        tuned = TinyClassifier(classifier, base.tokenizer)
    answers = run([in_both_ways(e.input, task.prompt, tuned) for e in task.test], tuned)
    return sum(a.value == e.target for a, e in zip(answers, task.test, strict=True)) / len(task.test)


def main() -> None:
    given = options(__doc__)
    rows = []
    grid = [(lr, epochs) for lr in (5e-4, 1.5e-3) for epochs in (10, 20)]
    with one_thread():
        for task in tasks():
            for method in ("sft", "head"):
                for lr, epochs in grid:
                    for k in (8, 32, 128):
                        name = f"{task.name}, {method}, lr {lr:g}, {epochs} epochs, {k} labels"
                        if given.quick and k > 8:
                            rows.append(row(name, None, "accuracy", note="not measured in a quick run"))
                            continue
                        seeds = range(1 if given.quick else 2)
                        scores = [accuracy(task, method, k, lr, epochs, seed) for seed in seeds]
                        mean = sum(scores) / len(scores)
                        rows.append(row(name, mean, "accuracy", low=min(scores), high=max(scores), n=len(task.test)))
                        print(rows[-1]["name"], round(mean, 3), flush=True)
    finish(rows, given)


if __name__ == "__main__":
    main()
