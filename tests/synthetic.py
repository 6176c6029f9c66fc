"""A made-up run directory with a planted crossing: prompting is ahead with few labels, fine-tuning with many."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

CLASSES = ("advice", "finding", "background")
BUDGETS = (0, 8, 32, 128)
ARMS = {
    "few-shot": ("prompting", "Random demonstrations, the same for every item", (0.46, 0.62, 0.66, 0.68)),
    "few-shot-knn": ("prompting", "The nearest labelled examples as demonstrations", (None, 0.66, 0.74, 0.76)),
    "head": ("fine-tuning", "A linear layer on the model's last state", (None, 0.44, 0.75, 0.91)),
    "lora": ("fine-tuning", "Low-rank adapters of every attention matrix", (None, 0.40, 0.62, 0.86)),
    "tfidf": ("baseline", "TF-IDF and logistic regression", (None, 0.42, 0.52, 0.66)),
    "majority": ("baseline", "Always the most frequent label", (None, 0.42, 0.42, 0.42)),
}
TEXTS = {
    "advice": "Clinicians should consider {} in adults with {}.",
    "finding": "{} was associated with a lower rate of {} (p < 0.05).",
    "background": "{} is a common treatment of {}, but evidence is mixed.",
}
DRUGS = ("Metformin", "Aspirin", "Vitamin D", "A Mediterranean diet", "Early mobilisation", "Screening", "Statins")
ILLS = ("type 2 diabetes", "stroke", "falls", "heart failure", "delirium", "colorectal cancer", "fractures", "asthma")


def write_run(
    directory: Path,
    n_items: int = 240,
    seeds: tuple[int, ...] = (0, 1, 2),
    arms: dict[str, tuple] = ARMS,
    budgets: tuple[int, ...] = BUDGETS,
    text: str = "",
    **run: object,
) -> Path:
    """Write rows.jsonl, messages.jsonl, cells.jsonl and run.json.

    `text` is put before every item's text. Arms whose names differ only by a final ' give the same answers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    items = [_item(i, rng, text) for i in range(n_items)]
    table: dict[tuple[str, str], int] = {}
    rows, cells = [], []
    for arm, (family, _, curve) in arms.items():
        for k, share in zip(budgets, curve, strict=True):
            for seed in () if share is None else seeds if k else seeds[:1]:
                rows += [_row(arm, family, k, seed, item, share, items, table) for item in items]
                cells.append(_cell(arm, family, k, seed))
    order = {name: i for i, name in enumerate(arms)}
    rows.sort(key=lambda row: (order[row["arm"]], row["labels"], row["seed"], row["item"]))
    _write(directory / "rows.jsonl", rows)
    _write(directory / "cells.jsonl", cells)
    _write(directory / "messages.jsonl", [{"role": role, "content": content} for role, content in table])
    (directory / "run.json").write_text(json.dumps(_run(arms, budgets, seeds, n_items) | run))
    return directory


def _item(i: int, rng: np.random.Generator, text: str) -> dict:
    target = CLASSES[int(rng.choice(3, p=(0.3, 0.42, 0.28)))]
    words = TEXTS[target].format(rng.choice(DRUGS), rng.choice(ILLS))
    return {"id": f"s{i:04}", "target": target, "cluster": i // 2, "text": f"{text}{words}", "ease": rng.normal()}


def _row(arm: str, family: str, k: int, seed: int, item: dict, share: float, items: list, table: dict) -> dict:
    rng = np.random.default_rng([zlib.crc32(arm.rstrip("'").encode()), k, seed, int(item["id"][1:])])
    drift = 0.03 * np.random.default_rng([k, seed]).normal()
    right = bool(rng.random() < np.clip(share + drift + 0.12 * item["ease"], 0.02, 0.98))
    if arm == "majority":
        right = item["target"] == "finding"
    wrong = [name for name in CLASSES if name != item["target"]]
    answer = item["target"] if right else str(rng.choice(wrong))
    failed = arm == "few-shot" and rng.random() < 0.002
    model = family != "baseline"
    shots = min(k, 48) if family == "prompting" else 0
    return {
        "arm": arm,
        "labels": k,
        "seed": seed,
        "item": item["id"],
        "group": f"pmid-{item['cluster']}",
        "cluster": item["cluster"],
        "target": item["target"],
        "answer": None if failed else answer,
        "correct": right and not failed,
        "why": "the request failed" if failed else None,
        "generated": _generated(item, answer, right, rng) if family == "prompting" else None,
        "shots": shots,
        "left_out": k - shots if family == "prompting" else 0,
        "prompt": _prompt(item, shots, items, rng if "knn" in arm else np.random.default_rng(seed), table)
        if model
        else [],
        "input_tokens": (40 + 31 * shots) if model else 0,
        "output_tokens": 2 if model else 0,
        "seconds": (0.004 + 0.0011 * shots) if model else 0.00002,
        "error": "the server closed the connection" if failed else None,
    }


def _generated(item: dict, answer: str, right: bool, rng: np.random.Generator) -> dict:
    if rng.random() < 0.06:
        return {"text": "I think this sentence is about health.", "answer": None, "correct": False}
    return {"text": f"{answer}.", "answer": answer, "correct": right}


def _prompt(item: dict, shots: int, items: list, rng: np.random.Generator, table: dict) -> list[int]:
    chat = [("system", f"Label the sentence with one of: {', '.join(CLASSES)}.")]
    for i in rng.choice(40, size=min(shots, 40), replace=False):
        demo = items[i % len(items)]
        chat += [("user", f"Sentence: a demonstration. {demo['text']}"), ("assistant", demo["target"])]
    chat.append(("user", f"Sentence: {item['text']}"))
    return [table.setdefault(message, len(table)) for message in chat]


def _cell(arm: str, family: str, k: int, seed: int) -> dict:
    learns = {"prompting": 0.0, "fine-tuning": 2.0 + 0.06 * k, "baseline": 0.01}[family]
    trained = {"lora": 49_152}.get(arm, 771) if family == "fine-tuning" else None
    return {
        "arm": arm,
        "labels": k,
        "seed": seed,
        "learn_seconds": learns,
        "answer_seconds": 1.0,
        "trained_parameters": trained,
        "notes": ["stopped at the epoch with the lowest loss on a fifth of the labels"] if trained else [],
    }


def _run(arms: dict, budgets: tuple, seeds: tuple, n_items: int) -> dict:
    return {
        "command": "promptlab compare sentences.csv --text sentence --label kind --group pmid --seeds 3",
        "model": "tiny (3.4 million parameters)",
        "arguments": {"labels": list(budgets), "seeds": len(seeds), "model": "tiny"},
        "arms": [
            {
                "name": name,
                "family": family,
                "needs_labels": curve[0] is None,
                "draws_without_labels": False,
                "description": description,
            }
            for name, (family, description, curve) in arms.items()
        ],
        "labels": list(CLASSES),
        "n_train": 4_000,
        "n_test": n_items,
        "budgets": list(budgets),
        "seeds": list(seeds),
        "versions": {"promptlab": "0.1.0", "python": "3.11.9", "torch": "2.9.0", "numpy": "2.4.6"},
        "files": {"sentences.csv": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
        "machine": "Linux x86_64, 2 cores",
        "lint": [
            {
                "kind": "overlap",
                "count": 3,
                "message": "3 test items also stand in the training rows.",
            },
            {"kind": "conflicts", "count": 2, "message": "2 text(s) occur with different labels, in 4 rows."},
            {"kind": "near-empty", "count": 1, "message": "1 row has a text of fewer than 3 characters."},
        ],
        "warnings": [],
        "power": {},
        "started": "2026-01-01T10:00:00Z",
        "finished": "2026-01-01T10:03:20Z",
    }


def _write(path: Path, objects: list[dict]) -> None:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects), encoding="utf-8")
