"""Each benchmark runs, on something small; what it measures here says nothing."""

import json
import sys

import numpy as np
import pytest

from benchmarks.export import exact_index, one_call, rules, scann, size, steady


def run(module, monkeypatch, out, *arguments):
    given = [str(argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", [module.__name__, *given, "--out", str(out)])
    assert module.main() in (0, 1)
    name = module.__name__.rpartition(".")[2]
    return json.loads((out / f"{name}.json").read_text())


def test_the_exact_index_is_timed(monkeypatch, tmp_path):
    found = run(exact_index, monkeypatch, tmp_path, "--items", 500, "--many", 800, "--rounds", 2)
    assert len(found["bars"]) == 2


def test_an_enlarged_catalogue_keeps_the_trained_items_and_stays_near_them():
    rng = np.random.default_rng(0)
    trained = rng.normal(size=(50, 9)).astype(np.float32)
    trained[:, :-1] /= np.linalg.norm(trained[:, :-1], axis=1, keepdims=True)
    found = scann.enlarged(trained, items=400, seed=1)
    assert found.shape == (400, 9)
    np.testing.assert_array_equal(found[:50], trained)
    np.testing.assert_allclose(np.linalg.norm(found[:, :-1], axis=1), 1.0, atol=1e-5)
    near = (found[50:, :-1] @ trained[:, :-1].T).max(axis=1)
    gaps = np.sort(trained[:, :-1] @ trained[:, :-1].T, axis=1)[:, -2]
    assert near.min() > gaps.min()
    assert np.isin(found[:, -1], trained[:, -1]).all()


@pytest.mark.slow
def test_one_call_gives_the_list_of_three_steps(monkeypatch, tmp_path):
    from rich.console import Console

    from benchmarks.serving.bundle import make_bundle

    folder = tmp_path / "bundles" / "300"
    make_bundle(folder, items=300, users=300, seed=1, console=Console(quiet=True))
    monkeypatch.setattr(one_call, "known_users", lambda count: [f"user-{n}" for n in range(30)])
    assert run(one_call, monkeypatch, tmp_path, folder, "--rounds", 2)["agree"] == 1.0
    assert len(run(rules, monkeypatch, tmp_path, folder, "--rounds", 2)["bars"]) == 4
    assert len(run(steady, monkeypatch, tmp_path, folder, "--requests", 20)["bars"]) == 1
    loaded = run(size, monkeypatch, tmp_path, folder.parent, "--sizes", 300)["bundles"]
    assert loaded[0]["size"] == 300 and loaded[0]["memory"] > 50
    assert (tmp_path / "size.png").exists()
