"""The examples most like the question. Nothing is asked of the model, and a question is never its own demonstration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from promptlab.prompt import shown
from promptlab.splits import text_key
from promptlab.strategies.shots.selector import Selector
from promptlab.types import Example
from promptlab.words import WORD

Array: TypeAlias = NDArray[np.float64]
Embed: TypeAlias = Callable[[Sequence[str]], Any]  # texts -> a vector each: lists, or an array
MOST_NEAREST = 32


def nearest(pool: Sequence[Example], most: int = MOST_NEAREST) -> Selector:
    """The `most` examples nearest to the question by TF-IDF cosine (Liu et al. 2021, arXiv 2101.06804, with TF-IDF in
    place of sentence embeddings); equal distances stay in the pool's order, as all do in a pool without a word."""
    return ranked(pool, Cosines(pool).to, most)


def embedded(pool: Sequence[Example], embed: Embed, most: int = MOST_NEAREST) -> Selector:
    """The `most` examples nearest to the question by the cosine of their vectors (Liu et al. 2021, arXiv 2101.06804).

    `embed` makes a vector of each text: a sentence encoder's `encode`, an API's call. It is called once for the pool,
    and once for every question.
    """
    return ranked(pool, Cosines(pool, embed).to, most)


def bm25(pool: Sequence[Example], most: int = MOST_NEAREST, k1: float = 1.2, b: float = 0.75) -> Selector:
    """The `most` examples nearest to the question by BM25 (Robertson and Zaragoza 2009, Foundations and Trends in IR
    3(4):333, eq. 3.15, a word counted as often as the question holds it).

    Differs: the weight of a word in n of N texts is log(1 + (N - n + ½) / (n + ½)), so that one in most texts does not
    count against them.
    """
    return ranked(pool, bm25_scores(pool, k1, b) if has_words(pool) else lambda question: np.zeros(len(pool)), most)


def bm25_scores(pool: Sequence[Example], k1: float, b: float) -> Callable[[str], Array]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=WORD, dtype=np.float64)
    weights = counter.fit_transform(shown(e.input) for e in pool)  # (pool, words), counts as yet
    length = np.asarray(weights.sum(axis=1)).ravel()
    n = np.asarray((weights > 0).sum(axis=0)).ravel()
    idf = np.log1p((len(pool) - n + 0.5) / (n + 0.5))
    norm = k1 * (1 - b + b * length / length.mean())
    tf, text = weights.data, np.repeat(np.arange(len(pool)), np.diff(weights.indptr))  # of each entry
    weights.data = idf[weights.indices] * tf * (k1 + 1) / (tf + norm[text])
    return lambda question: dense(weights @ counter.transform([shown(question)]).T).ravel()


def ranked(pool: Sequence[Example], score: Callable[[str], Array], most: int) -> Selector:
    """The `most` of the pool with the highest scores for a question; equal ones stay in the pool's order."""
    if not pool:
        return lambda question: ()
    others = Others(pool)

    def select(question: str) -> Sequence[Example]:
        order = (-score(question)).argsort(kind="stable")
        return [pool[i] for i in order[others.than(question)[order]][:most]]

    return select


class Others:
    """Which of a pool are not the question itself: equal apart from case, spacing and punctuation."""

    def __init__(self, pool: Sequence[Example]) -> None:
        self.keys = np.array([text_key(example.input).hex() for example in pool])

    def than(self, question: str) -> NDArray[np.bool_]:
        return np.asarray(self.keys != text_key(question).hex())


class Cosines:
    """How near texts are to those of a pool: by `embed`, or by TF-IDF learnt from the pool. A text of which nothing is
    known is near to itself alone."""

    def __init__(self, pool: Sequence[Example], embed: Embed | None = None) -> None:
        self.embed = embed or (tfidf(pool) if has_words(pool) else lambda texts: np.zeros((len(texts), 1)))
        self.vectors = unit(self.embed([shown(e.input) for e in pool]))  # (pool, dimensions)

    def to(self, question: str) -> Array:
        """The question's with each of the pool."""
        return dense(self.vectors @ unit(self.embed([shown(question)])).T).ravel()

    def among(self, rows: Any, columns: Any) -> Array:
        """Those of the pool with each other."""
        return dense(self.vectors[rows] @ self.vectors[columns].T)


def tfidf(pool: Sequence[Example]) -> Embed:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD).fit(shown(e.input) for e in pool)
    return lambda texts: vectorizer.transform(texts)


def has_words(pool: Sequence[Example]) -> bool:
    return any(c.isalnum() or c == "_" for example in pool for c in shown(example.input))


def unit(vectors: Any) -> Any:
    """The vectors at length 1, those without a length as they are; sparse ones, of TF-IDF, have it already."""
    if hasattr(vectors, "toarray"):
        return vectors
    array = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(length > 0, length, 1)


def dense(array: Any) -> Array:
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array)
