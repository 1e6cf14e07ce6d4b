"""The losses of the tasks, each masked to where its label could be observed."""

from __future__ import annotations

from features.backend import tf

_NOT_THERE = -1e9


def choice_loss(
    logits: tf.Tensor, *, label: tf.Tensor, there: tf.Tensor, log_weight: tf.Tensor
) -> tf.Tensor:
    """Mean cross-entropy of the chosen candidate among a query's candidates, natural log.

    A sampled candidate stands for exp(log_weight) items of the catalogue, so its logit is raised
    by as much (sampled softmax, Jean et al. 2015, section 3); the chosen one stands for itself.

    Args:
        logits: [B, C] float.
        label: [B, C] bool, the chosen candidate; queries without one do not count.
        there: [B, C] bool, False for padding.
        log_weight: [B, C] float.
    """
    weighted = tf.where(there, tf.where(label, logits, logits + log_weight), _NOT_THERE)
    chosen = tf.reduce_sum(tf.where(label, logits, 0.0), axis=1)
    has_label = tf.cast(tf.reduce_any(label, axis=1), logits.dtype)
    losses = (tf.reduce_logsumexp(weighted, axis=1) - chosen) * has_label
    return tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(has_label), 1.0)


def squared_error(prediction: tf.Tensor, label: tf.Tensor, *, std: float) -> tf.Tensor:
    """Mean squared error of [n] predictions, in units of the labels' variance; NaN is no label."""
    there = tf.logical_not(tf.math.is_nan(label))
    error = tf.where(there, (prediction - tf.where(there, label, 0.0)) / std, 0.0)
    return _mean(tf.square(error), there)


def log_loss(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Mean log loss of [n] logits against labels 0 or 1, natural log; NaN is no label."""
    there = tf.logical_not(tf.math.is_nan(label))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.where(there, label, 0.0), logits)
    return _mean(tf.where(there, losses, 0.0), there)


def _mean(losses: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(tf.cast(there, losses.dtype)), 1.0)
