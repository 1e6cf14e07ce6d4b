from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Outputs = dict[str, np.ndarray]


def run(signature: Callable[..., Any], **inputs: Any) -> Outputs:
    """Call a signature with lists; retrieval_score is float, all else strings."""
    from features.backend import tf

    tensors = {
        name: tf.constant(values, tf.float32 if name == "retrieval_score" else tf.string)
        for name, values in inputs.items()
    }
    return {name: value.numpy() for name, value in signature(**tensors).items()}


@pytest.fixture(scope="session")
def ask(exported_bundle):
    """Ask a model of the exported bundle: ask("recommender", user_id=[...])."""
    from features.backend import tf

    models = {
        name: tf.saved_model.load(str(exported_bundle.model(name)))
        for name in ("retrieval", "ranking", "recommender")
    }

    def ask(model: str, signature: str = "serving_default", **inputs: Any) -> Outputs:
        return run(models[model].signatures[signature], **inputs)

    return ask


@pytest.fixture(scope="session")
def ask_graph(tmp_path_factory):
    """Ask the graph of any System without saving it: ask_graph(system, candidates=, max_k=)."""
    from export.identifiers import Identifiers
    from export.recommender import Recommender
    from export.signatures import Widths, signatures

    def make(system: Any, *, candidates: int, max_k: int) -> Callable[..., Outputs]:
        folder = tmp_path_factory.mktemp("ids")
        recommender = Recommender(
            system,
            users=Identifiers(system.log.user_ids, file=folder / "user_ids.txt"),
            items=Identifiers(system.log.item_ids, file=folder / "item_ids.txt"),
        )
        calls = signatures(recommender, widths=Widths(max_k=max_k, candidates=candidates))
        return lambda model, **inputs: run(calls[model]["serving_default"], **inputs)

    return make


@pytest.fixture(scope="session")
def chosen_by(trained_system):
    """By user id, the ids of the items that the user ever chose."""
    log = trained_system.log
    found: dict[str, set[str]] = {user: set() for user in log.user_ids}
    for user, item, chosen in zip(log.user, log.item, log.chosen, strict=True):
        if chosen:
            found[log.user_ids[user]].add(log.item_ids[item])
    return found
