"""How much faster the fused softmax is than matmul and softmax, forward and backward.

Both take turns in one run, so that a busy machine slows both; the ratio of their medians is what
to read.

    python -m benchmarks.retrieval.softmax
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from features.backend import tf
from retrieval.loss import softmax_loss
from retrieval.softmax import Arrival, Shift


@dataclass(frozen=True)
class Case:
    """One setting of the loss."""

    name: str
    windows: bool = False
    """A correction for each window, as with sampled negatives."""
    slots: int = 1
    """Moments at which popularity was counted."""
    times: bool = False
    """Candidates appear as time goes by."""


CASES = (
    Case("full softmax"),
    Case("corrected per window", windows=True),
    Case("all, 64 slots", windows=True, slots=64, times=True),
)


def losses(
    case: Case, *, queries: int, candidates: int, width: int, seed: int
) -> dict[str, Callable[[], object]]:
    """Return the fused and the plain loss with all gradients, over the same random tensors."""
    rng = np.random.default_rng(seed)
    windows = 100

    def normal(*shape: int) -> tf.Tensor:
        return tf.constant(rng.normal(size=shape), tf.float32)

    def rows(number: int) -> tf.Tensor:
        return tf.constant(rng.integers(0, number, queries), tf.int32)

    inputs = [normal(queries, width) / 4, normal(candidates, width), normal(case.slots, candidates)]
    positive, slot, window = rows(candidates), rows(case.slots), tf.sort(rows(windows))
    correction = normal(windows if case.windows else 1, candidates)
    first_seen = tf.constant(rng.integers(0, 1000, candidates))
    time_of = tf.constant(rng.integers(500, 1500, queries))

    @tf.function
    def fused() -> object:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = softmax_loss(
                inputs[0],
                inputs[1],
                positive=positive,
                bias=Shift(inputs[2], slot if case.slots > 1 else None),
                correction=Shift(correction, window if case.windows else None),
                arrival=Arrival.of(first_seen, time_of) if case.times else None,
            )
        return loss, tape.gradient(loss, inputs)

    @tf.function
    def plain() -> object:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            scores = tf.matmul(inputs[0], inputs[1], transpose_b=True)
            scores += tf.gather(inputs[2], slot) if case.slots > 1 else inputs[2]
            logits = scores + (tf.gather(correction, window) if case.windows else correction)
            if case.times:
                logits = tf.where(first_seen[tf.newaxis] <= time_of[:, tf.newaxis], logits, -1e9)
            place = tf.stack([tf.range(queries), positive], axis=1)
            logits = tf.tensor_scatter_nd_update(logits, place, tf.gather_nd(scores, place))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(positive, logits))
        return loss, tape.gradient(loss, inputs)

    return {"fused": fused, "plain": plain}


def medians(functions: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return each function's median seconds; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if number:  # the first one traces
                taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=12800)
    parser.add_argument("--candidates", type=int, default=3416)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.queries} queries x {options.candidates} candidates x {options.width}\n")
    print("| loss and gradients | fused, queries/s | plain, queries/s | ratio |")
    print("|---|---|---|---|")
    for case in CASES:
        functions = losses(
            case,
            queries=options.queries,
            candidates=options.candidates,
            width=options.width,
            seed=options.seed,
        )
        seconds = medians(functions, rounds=options.rounds)
        speed = {name: options.queries / value for name, value in seconds.items()}
        print(
            f"| {case.name} | {speed['fused']:,.0f} | {speed['plain']:,.0f} "
            f"| {speed['fused'] / speed['plain']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
