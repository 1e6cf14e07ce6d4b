"""TF-IDF content neighbours: items whose texts and categories are like those of the history."""

from __future__ import annotations

import re
import time

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.retrieval.contender import Contender, Fitted, Settings, grid
from benchmarks.retrieval.problem import Problem
from interactions.errors import UserError
from interactions.queries import Queries

TRAINING = grid(ngrams=(1, 2), sublinear=(False, True))
HALF_LIVES = (None, 1.0, 3.0, 10.0, 30.0)
"""In events back; None is the plain mean of the history."""
_WORDY = ("text", "categorical", "categories")


def documents(problem: Problem) -> list[str]:
    """Return one text per item: the words of its texts, and one word for each of its categories.

    Raises `UserError` where the items have neither.
    """
    data = problem.data
    features = [f for f in data.config.data.item_features if f.kind in _WORDY]
    if not features:
        raise UserError("data.item_features has no text or category; leave out the model `tfidf`")
    texts = [""] * problem.items
    for feature in features:
        for row, value in enumerate(data.log.item_table[feature.name].to_pylist()):
            if value is None:
                continue
            if feature.kind == "text":
                texts[row] += f" {value}"
            else:
                values = value if isinstance(value, list) else str(value).split(feature.separator)
                words = [re.sub(r"\W+", "_", f"{feature.name} {one}") for one in values]
                texts[row] += " " + " ".join(words)
    return texts


def _fit(problem: Problem, settings: Settings, seed: int) -> Fitted:
    started = time.perf_counter()
    vectorizer = TfidfVectorizer(
        token_pattern=r"(?u)\b\w+\b",
        ngram_range=(1, settings["ngrams"]),
        sublinear_tf=settings["sublinear"],
    )
    vectors = csr_matrix(
        vectorizer.fit_transform(documents(problem)), dtype=np.float32
    )  # rows of length 1
    seconds = time.perf_counter() - started

    def rank(queries: Queries, asking: Settings) -> np.ndarray:
        def scores(part: Queries) -> np.ndarray:
            words = (problem.profiles(part, **asking) @ vectors).toarray()
            return (vectors @ words.T).T  # sparse [items, words] times dense [words, queries]

        return problem.rank(queries, scores)

    return Fitted(rank, seconds, problem.items)


TFIDF = Contender(
    "TF-IDF content",
    "cosine of an item's words with those of the rolled history, with or without decay; it knows "
    "items nobody has chosen, and its events are the catalogue's items",
    _fit,
    training=TRAINING,
    asking=grid(half_life=HALF_LIVES),
)
