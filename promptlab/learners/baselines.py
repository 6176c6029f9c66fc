"""The two baselines that keep everyone honest. Neither asks a model anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from promptlab.errors import SetupError
from promptlab.learners.solver import Family, Silent, Solver
from promptlab.task import Task
from promptlab.types import Answer, Example


@dataclass(frozen=True)
class Majority:
    """Always the most frequent label of the examples; among equals the first by name."""

    family: ClassVar[Family] = "baseline"
    needs_labels: ClassVar[bool] = True
    description: ClassVar[str] = "always the most frequent label"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise SetupError("the majority class needs at least one labelled example.")
        counts = Counter(sorted(str(e.target) for e in examples))
        label = counts.most_common(1)[0][0]

        async def program(question: str) -> Answer:
            return Answer(label, label)

        return Solver(program, Silent())


@dataclass(frozen=True)
class TfidfLogistic:
    """TF-IDF over words and word pairs, logistic regression (scikit-learn); C is chosen inside the examples given.

    The choice is by three-fold cross-validation where every label has three examples, else C is 10: so that it is
    paid for from the same label budget.
    """

    family: ClassVar[Family] = "baseline"
    needs_labels: ClassVar[bool] = True
    description: ClassVar[str] = "TF-IDF of words and word pairs, logistic regression; C by cross-validation"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline

        targets = [str(e.target) for e in examples]
        counts = Counter(targets)
        if len(counts) < 2:  # nothing to tell apart yet
            return Majority()(task, examples, seed)
        pipeline = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b"),
            LogisticRegression(C=10.0, max_iter=2000),
        )
        if min(counts.values()) >= 3:
            folds = StratifiedKFold(3, shuffle=True, random_state=seed)
            pipeline = GridSearchCV(pipeline, {"logisticregression__C": [1.0, 10.0, 100.0]}, cv=folds)
        pipeline.fit([e.input for e in examples], targets)

        async def program(question: str) -> Answer:
            label = str(pipeline.predict([question])[0])
            return Answer(label, label)

        return Solver(program, Silent())
