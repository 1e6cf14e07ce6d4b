"""What a request's rules cost in the recommender's graph, run as the server runs it.

Four rules at once (50 exclusions, a category, a price range, diversity over 100) beside a request
of the same signature without them: at most 35 % more at one query, 75 % at 32. Rules that a request
does not use, beside `serving_default`, which knows none: at most 2 % more. The bundle is one of
`benchmarks.serving.bundle`, whose items have a `category` and a `price` to filter by.

    python -m benchmarks.serving.bundle BUNDLE --items 100000
    python -m benchmarks.export.rules BUNDLE --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.arguments import results_folder
from benchmarks.export.bars import Bar, alternating, ratio, report, times_table
from benchmarks.serving.load import known_users
from export.manifest import Bundle, SignatureEntry, read_bundle
from export.signatures import DEFAULT, RECOMMENDER, REQUEST
from features.backend import tf
from serving.loading import load_model

CATEGORY, PRICE = "category", "price"
MOST = {1: 1.35, 32: 1.75}
"""Times of a request with four rules beside one without, by batch."""
UNUSED = 1.02


def silent(signature: SignatureEntry, *, batch: int, k: int) -> dict[str, np.ndarray]:
    """Return requests of `recommend` that bring nothing but users."""
    inputs = {}
    for name, entry in signature.inputs.items():
        shape = (batch, *(size or 1 for size in entry.shape[1:]))
        dtype = tf.dtypes.as_dtype(entry.dtype).as_numpy_dtype
        blank = {"string": "", "float32": 0.0}.get(entry.dtype, 0)
        if name.startswith(("min_", "max_")):
            blank = (
                np.finfo(np.float32).min if name.startswith("min_") else np.finfo(np.float32).max
            )
        inputs[name] = np.full(shape, blank, object if entry.dtype == "string" else dtype)
    inputs["user_id"] = np.array(known_users(batch), object)
    inputs["k"] = np.full(batch, k, np.int32)
    return inputs


def with_rules(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same requests with the four rules."""
    asked = {name: values.copy() for name, values in inputs.items()}
    asked["exclude"][:, :50] = [f"item-{n}" for n in range(50)]
    asked[f"only_{CATEGORY}"][:, 0] = "c7"
    asked[f"min_{PRICE}"][:] = 0.5
    asked[f"max_{PRICE}"][:] = 3.0
    asked["diversity"][:] = 0.3
    return asked


def calls(bundle: Bundle, *, batch: int) -> dict[str, Callable[[], object]]:
    """Return a call without any rule, one that uses none, and one that uses four."""
    folder, version = bundle.model(RECOMMENDER), bundle.manifest.version
    model = load_model(folder, name=RECOMMENDER, version=version)
    # explanations are another matter: all calls give what the plain signature gives
    outputs = tuple(sorted(bundle.manifest.signatures[RECOMMENDER][DEFAULT].outputs))
    described = bundle.manifest.signatures[RECOMMENDER][REQUEST]
    nothing = silent(described, batch=batch, k=bundle.manifest.widths.max_k)

    def call(signature: str, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        plan = model.plan(signature)
        assert plan is not None, f"the recommender has no signature {signature}"
        runner = model.runner(plan, outputs)
        return lambda: runner.run(inputs)

    return {
        "serving_default": call(DEFAULT, {"user_id": nothing["user_id"]}),
        "no rule used": call(REQUEST, nothing),
        "four rules": call(REQUEST, with_rules(nothing)),
    }


def main() -> int:
    """Measure at one query and at 32."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=results_folder, default="runs/benchmarks/export")
    parser.add_argument("--rounds", type=int, default=100)
    asked = parser.parse_args()
    bundle = read_bundle(asked.bundle)
    bars, tables = [], []
    for batch, most in MOST.items():
        times = alternating(calls(bundle, batch=batch), rounds=asked.rounds)
        queries = "one query" if batch == 1 else f"{batch} queries"
        bars += [
            Bar(f"four rules, {queries}", ratio(times, "four rules", "no rule used"), most),
            Bar(f"unused, {queries}", ratio(times, "no rule used", "serving_default"), UNUSED),
        ]
        tables += [f"{queries}:\n", times_table(times)]
    return report("rules", bars, out=asked.out, tables=tables)


if __name__ == "__main__":
    sys.exit(main())
