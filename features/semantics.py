"""What words mean, as far as the catalogue's own texts tell: a start for text embeddings."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

_MOST_TEXTS = 200_000
"""Texts that are looked at; more would cost time and tell little."""


def latent_semantics(ids: np.ndarray, *, size: int, dim: int) -> np.ndarray:
    """Return a vector for every token, whose mean over a text says what the text is about.

    Latent semantic analysis (Deerwester et al. 1990): the texts' unit vectors of inverse document
    frequencies, projected onto their `dim` strongest directions. Texts that share rare words begin
    near to each other, which a random start would have to learn from interactions.

    Args:
        ids: [texts, width] int32 tokens in [0, size); 0 is padding.
        size: how many tokens there are.
        dim: length of a vector.

    Returns:
        [size, dim] float32; a text's mean is about a unit vector. Zeros for tokens that are in no
        text, and in directions that few texts or tokens do not have.
    """
    ids = ids[:: -(-len(ids) // _MOST_TEXTS)] if len(ids) else ids
    text, place = np.nonzero(ids)
    token = ids[text, place]
    counts = csr_matrix((np.ones(len(text)), (text, token)), shape=(len(ids), size))
    texts_with = np.bincount(counts.indices, minlength=size)
    directions = min(dim, len(ids) - 1, int((texts_with > 0).sum()) - 1)
    if directions < 1:
        return np.zeros((size, dim), np.float32)
    rarity = np.log((1 + len(ids)) / (1 + texts_with))
    weighted = csr_matrix(counts.sign() @ diags(rarity))
    length = np.sqrt(weighted.multiply(weighted).sum(axis=1)).A1
    weighted = csr_matrix(diags(1 / np.maximum(length, 1e-9)) @ weighted)
    # a fixed start of the iteration: the same texts give the same vectors
    _, _, found = svds(weighted, k=directions, v0=np.ones(min(len(ids), size)))
    assert found is not None, "directions were asked for"
    vectors = rarity[:, np.newaxis] * found.T
    means = (counts @ vectors) / np.maximum(np.bincount(text, minlength=len(ids)), 1)[:, np.newaxis]
    typical = np.linalg.norm(means, axis=1).mean()
    vectors *= 1 / max(typical, 1e-9)
    return np.pad(vectors, ((0, 0), (0, dim - directions))).astype(np.float32)
