"""The one place that sets up TensorFlow: `from features.backend import tf, tfrs`.

TensorFlow Recommenders needs Keras 2, which TensorFlow 2.16 and later use only where
`TF_USE_LEGACY_KERAS` is set before `tf.keras` is first touched.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.setdefault("TF_USE_LEGACY_KERAS", "1").lower() not in ("1", "true"):
    raise ImportError(
        f"TF_USE_LEGACY_KERAS={os.environ['TF_USE_LEGACY_KERAS']!r} asks for Keras 3, which "
        "TensorFlow Recommenders cannot use. Unset it, or set it to 1."
    )

import tensorflow as tf

if not tf.keras.layers.Layer.__module__.startswith("tf_keras"):
    raise ImportError(
        "TensorFlow is already set up with Keras 3, which TensorFlow Recommenders cannot use. "
        "Import Tandem first, or set TF_USE_LEGACY_KERAS=1 before anything touches tf.keras; "
        "in a notebook, restart the runtime."
    )

import tensorflow_recommenders as tfrs

# retracing for new shapes and "Assets written" are no news to a user; what goes wrong is raised
tf.get_logger().setLevel("ERROR")

__all__ = ["tf", "tfrs"]
