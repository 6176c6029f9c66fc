"""The two baselines that keep everyone honest. Neither asks a model anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from promptlab.learners.solver import Family, Silent, Solver
from promptlab.task import Task
from promptlab.types import Answer, Example
from promptlab.words import WORD

LONGEST_TEXT = 100_000  # characters that TF-IDF reads of a text: some forty pages


@dataclass(frozen=True)
class Majority:
    """Always the most frequent label of the examples; among equals the first by name."""

    family: ClassVar[Family] = "baseline"
    needs_labels: ClassVar[bool] = True
    description: ClassVar[str] = "always the most frequent label"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise ValueError("the majority class needs at least one labelled example")
        counts = Counter(sorted(str(e.target) for e in examples))
        label = counts.most_common(1)[0][0]

        async def program(question: str) -> Answer:
            return Answer(label, label)

        return Solver(program, Silent())


@dataclass(frozen=True)
class TfidfLogistic:
    """TF-IDF over words and word pairs, logistic regression (scikit-learn); C is chosen inside the examples given.

    In scripts that put no space between words each character is one. The choice is by three-fold cross-validation where
    every label has three examples, else C is 10: so that it is paid for from the same label budget. Examples of one
    label only, or without a word, leave the majority class.
    """

    family: ClassVar[Family] = "baseline"
    needs_labels: ClassVar[bool] = True
    description: ClassVar[str] = "TF-IDF of words and word pairs, logistic regression; C by cross-validation"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold

        targets = [str(e.target) for e in examples]
        counts = Counter(targets)
        texts = [e.input[:LONGEST_TEXT] for e in examples]
        if len(counts) < 2 or not any(c.isalnum() for text in texts for c in text):  # nothing to tell apart by
            return Majority()(task, examples, seed)
        # The words are weighted once: what a fold holds out is weighted too, but never its label.
        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=WORD)
        vectors = vectorizer.fit_transform(texts)
        classifier = LogisticRegression(C=10.0, max_iter=2000)
        if min(counts.values()) >= 3:
            folds = StratifiedKFold(3, shuffle=True, random_state=seed)
            classifier = GridSearchCV(classifier, {"C": [1.0, 10.0, 100.0]}, cv=folds)
        classifier.fit(vectors, targets)

        async def program(question: str) -> Answer:
            label = str(classifier.predict(vectorizer.transform([question[:LONGEST_TEXT]]))[0])
            return Answer(label, label)

        return Solver(program, Silent())
