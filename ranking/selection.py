"""Losses of a task whose labels exist for some exposures only, and not for a random part of them.

A rating exists only after a purchase, and people buy what they expect to like: the mean over the
labels there are is not the mean over what was shown. Whether a label is there is predicted from
the same features, and its chance corrects the loss.
"""

from __future__ import annotations

from collections.abc import Callable

from features.backend import tf

RowLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Loss of each row from predictions and labels of one shape."""
_MOST = 10.0
"""How many times the average a single label may count, so that no rare one rules a step."""


def observed_mean(losses: tf.Tensor, there: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Weighted mean of the losses that are there.

    `losses`, `there` (bool) and `weight` are [P, W]; what is not there may be anything finite.
    """
    counted = tf.where(there, weight, 0.0)
    return tf.reduce_sum(losses * counted) / tf.maximum(tf.reduce_sum(counted), 1e-6)


def inverse_propensity(
    losses: tf.Tensor, there: tf.Tensor, weight: tf.Tensor, *, chance: tf.Tensor
) -> tf.Tensor:
    """Self-normalised mean of the losses over their chance (Schnabel et al. 2016, section 3.1).

    Args:
        losses: [P, W] float32, of each exposure.
        there: [P, W] bool, where a label is.
        weight: [P, W] float32, of each exposure, 0 for padding.
        chance: [P, W] float32, that a label is there; held from below at a tenth of its mean.
    """
    return observed_mean(losses, there, weight / _held(chance, weight))


def doubly_robust(
    predictions: tf.Tensor,
    labels: tf.Tensor,
    there: tf.Tensor,
    weight: tf.Tensor,
    *,
    chance: tf.Tensor,
    imputed: tf.Tensor,
    row_loss: RowLoss,
) -> tf.Tensor:
    """Loss against imputed labels everywhere, corrected where a label is (Wang et al. 2019).

    It is the mean over all exposures of l(p, imputed) + there / chance * (l(p, y) - l(p, imputed)):
    right in expectation where either the chances or the imputed labels are.

    Args:
        predictions: [P, W] float32.
        labels: [P, W] float32, anything finite where none is there.
        there: [P, W] bool.
        weight: [P, W] float32, of each exposure, 0 for padding.
        chance: [P, W] float32, that a label is there; held from below at a tenth of its mean.
        imputed: [P, W] float32, a guess of every label; no gradient flows into it.
        row_loss: of the task.
    """
    guessed = row_loss(predictions, tf.stop_gradient(imputed))
    known = row_loss(predictions, labels) - guessed
    corrected = guessed + tf.where(there, known / _held(chance, weight), 0.0)
    return tf.reduce_sum(corrected * weight) / tf.maximum(tf.reduce_sum(weight), 1e-6)


def _held(chance: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    chance = tf.stop_gradient(chance)
    mean = tf.reduce_sum(chance * weight) / tf.maximum(tf.reduce_sum(weight), 1e-6)
    return tf.maximum(chance, mean / _MOST)
