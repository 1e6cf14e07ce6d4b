"""The sampled softmax of the retriever and the correction for how its negatives were drawn."""

from __future__ import annotations

import numpy as np

from features.backend import tf

_NEVER_DRAWN = -1e9
"""Logit of a negative that must not count; finite, so that no gradient is NaN."""


def log_inclusion(
    *, windows_with_item: np.ndarray, windows: int, batch_windows: int, uniform_share: float
) -> np.ndarray:
    """Log of the probability that an item is among a batch's distinct negatives.

    An item comes in with the targets of one of the batch's windows, or among the items drawn
    uniformly; each distinct item then stands once.

    Args:
        windows_with_item: [items] int, training windows in which the item is a target.
        windows: number of training windows.
        batch_windows: windows in a batch.
        uniform_share: share of the catalogue that is drawn uniformly, without replacement.

    Returns:
        [items] float32, at most 0.
    """
    share = min(batch_windows / windows, 1.0)
    out_of_batch = np.where(windows_with_item > 0, (1.0 - share) ** windows_with_item, 1.0)
    inside = 1.0 - out_of_batch * (1.0 - uniform_share)
    return np.log(np.maximum(inside, 1e-9)).astype(np.float32)


def sampled_softmax(
    logits: tf.Tensor,
    *,
    positive: tf.Tensor,
    log_probability: tf.Tensor,
    allowed: tf.Tensor,
) -> tf.Tensor:
    """Cross-entropy of the chosen item against the batch's distinct items, per query.

    Each negative's logit is corrected by the log of its probability to be drawn, which makes the
    sum over negatives an unbiased estimate of the sum over the catalogue (Horvitz and Thompson
    1952; Yi et al. 2019, "Sampling-bias-corrected neural modeling", equation 3). The chosen item
    is always there, so its own logit is not corrected (arXiv 2507.09331); its accidental
    appearances among the negatives are removed.

    Args:
        logits: [Q, C] float, of the batch's distinct items.
        positive: [Q] int32, column of the chosen item.
        log_probability: [C] float, log of the probability that an item is among the candidates.
        allowed: [Q, C] bool, which items could have been candidates at the query's time.

    Returns:
        [Q] float, natural-log loss.
    """
    positive_logit = tf.gather(logits, positive, batch_dims=1)
    negatives = tf.where(allowed, logits - log_probability, _NEVER_DRAWN)
    place = tf.stack([tf.range(tf.shape(positive)[0]), positive], axis=1)
    # the chosen item takes the place of its accidental appearance, uncorrected
    everything = tf.tensor_scatter_nd_update(negatives, place, positive_logit)
    return tf.reduce_logsumexp(everything, axis=1) - positive_logit
