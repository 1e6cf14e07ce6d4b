"""Keras 2 is set up once, and who comes too late is told so."""

import os
import subprocess
import sys

import pytest


def run(code, **environment):
    kept = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_variable_set_to_keras_3_is_refused_with_the_remedy():
    done = run("import features.backend", TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and "TF_USE_LEGACY_KERAS='0'" in last and "Unset" in last


@pytest.mark.parametrize("touch", ["tf.keras.layers.Dense(1)"])
def test_who_touched_keras_3_first_is_told_what_to_do(touch):
    done = run(f"import tensorflow as tf\n{touch}\nimport features.backend")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and "Import Tandem first" in last and "restart" in last


def test_imported_first_it_sets_up_keras_2():
    from features.backend import tf, tfrs

    assert issubclass(tfrs.layers.dcn.Cross, tf.keras.layers.Layer)
    assert tf.keras.layers.Layer.__module__.startswith("tf_keras")
