"""The softmax loss of the retriever, over the catalogue or over a corrected sample of it."""

from __future__ import annotations

from features.backend import tf
from retrieval.softmax import Arrival, Shift, fused_softmax


def softmax_loss(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    *,
    positive: tf.Tensor,
    bias: Shift,
    correction: Shift,
    positive_correction: tf.Tensor | None = None,
    arrival: Arrival | None = None,
    weight: tf.Tensor | None = None,
) -> tf.Tensor:
    """Mean cross-entropy of the chosen items against a batch's candidates.

    With a correction of minus the log of the probability to be drawn, the sum over the negatives
    is an unbiased estimate of the sum over the catalogue (Horvitz and Thompson 1952; Yi et al.
    2019, "Sampling-bias-corrected neural modeling", equation 3). The chosen item is always there,
    so it stands once and its own logit is not corrected; the gradient is then that of Khrylchenko
    et al. 2025 (arXiv 2507.09331), whose weight, the chance to be wrong, comes out of the
    quotient. `positive_correction` makes it the classical form. Gradients flow to `queries`,
    `candidates` and `bias.table`.

    Args:
        queries: [Q, D] float32.
        candidates: [C, D] float32, of distinct items.
        positive: [Q] int32, column of the chosen item.
        bias: part of an item's score, in the form of its slot.
        correction: of negatives, per window or for all; -1e9 for an item that is no negative. The
            chosen item's own entry is not used.
        positive_correction: [Q] float32, added to the chosen item's logit; None adds nothing.
        arrival: when candidates appeared; None where time is unknown.
        weight: [Q] float32, of each query in the mean; None for all alike.

    Returns:
        scalar float32, in nats; 0 where all weights are.
    """
    if weight is None:
        weight = tf.ones_like(positive, tf.float32)
    weight = tf.math.divide_no_nan(weight, tf.reduce_sum(weight))
    return fused_softmax(
        queries,
        candidates,
        bias=bias,
        positive=positive,
        positive_shift=positive_correction,
        correction=correction,
        arrival=arrival,
        weight=weight,
    )
