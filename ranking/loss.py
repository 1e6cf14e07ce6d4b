"""The losses of the tasks, each masked to where its label could be observed."""

from __future__ import annotations

from features.backend import tf

_NOT_THERE = -1e9


def choice_loss(
    logits: tf.Tensor,
    *,
    label: tf.Tensor,
    there: tf.Tensor,
    log_weight: tf.Tensor,
    weight: tf.Tensor | None = None,
) -> tf.Tensor:
    """Mean cross-entropy of the chosen candidate among a query's candidates, natural log.

    A sampled candidate stands for exp(log_weight) items of the catalogue, so its logit is raised
    by as much (sampled softmax, Jean et al. 2015, section 3); the chosen one stands for itself.

    Args:
        logits: [B, C] float.
        label: [B, C] bool, the chosen candidate; queries without one do not count.
        there: [B, C] bool, False for padding.
        log_weight: [B, C] float.
        weight: [B] float, how much each query counts; all alike where None.
    """
    weighted = tf.where(there, tf.where(label, logits, logits + log_weight), _NOT_THERE)
    chosen = tf.reduce_sum(tf.where(label, logits, 0.0), axis=1)
    counted = tf.cast(tf.reduce_any(label, axis=1), logits.dtype)
    if weight is not None:
        counted *= weight
    losses = (tf.reduce_logsumexp(weighted, axis=1) - chosen) * counted
    # a batch in which nobody chose has a sum of 0, and a loss of 0
    return tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(counted), 1e-6)


def squared_errors(prediction: tf.Tensor, label: tf.Tensor, *, std: float) -> tf.Tensor:
    """Squared errors of predictions, in units of the labels' variance; any one shape."""
    return tf.square((prediction - label) / std)


def log_losses(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Log losses of logits against labels in [0, 1], natural log; any one shape."""
    return tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
