"""What a fit leaves behind, and that it goes on where it was stopped."""

import json
import math
import shutil

import pytest
import yaml

from interactions.errors import UserError
from tandem import system

WHATS = ("popularity", "recent_popularity", "retrieval", "recommender")


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def flat(metrics):
    return {f"{key}.{end}": value for key, entry in metrics.items() for end, value in entry.items()}


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    return shutil.copytree(finished.folder, tmp_path / "run")


def test_a_run_holds_what_it_should(finished):
    run = finished.folder
    for name in ("config.yaml", "metrics.json", "slices.json", "resources.json", "choices.json"):
        assert (run / name).stat().st_size > 0, name
    plots = {file.name for file in (run / "plots").iterdir()}
    assert plots == {"models.png", "calibration.png", "order.png"}
    for stage in ("first_retriever", "retriever", "ranker"):
        assert list((run / stage / "tensorboard").iterdir()), stage
    assert not list(run.rglob("*.partial")) + list(run.rglob("*.tmp"))


def test_metrics_are_flat_with_an_interval_and_a_count_each(finished):
    metrics = metrics_of(finished.folder)
    for key, entry in metrics.items():
        assert set(entry) == {"value", "low", "high", "n"}, key
        assert entry["n"] > 0 and math.isfinite(entry["value"]), key
        if entry["low"] is not None:
            assert entry["low"] <= entry["high"], key
            # what chance adds to a distance is taken off again, perhaps all of it
            assert key.endswith("calibration_error") or (
                entry["low"] <= entry["value"] <= entry["high"]
            ), key
    needed = {f"{what}.{metric}@10" for what in WHATS for metric in ("ndcg", "hit_rate", "recall")}
    needed |= {"ranking.rating.rmse", "ranking.purchase.auc", "ranking.purchase.log_loss"}
    needed |= {"recommender_minus_retrieval.ndcg@10"}
    assert needed - metrics.keys() == set()
    queries = {metrics[f"{what}.ndcg@10"]["n"] for what in WHATS}
    assert len(queries) == 1  # the same queries for every contender


def test_a_k_above_the_catalogue_is_not_measured(finished):
    assert {key for key in metrics_of(finished.folder) if key.endswith(("@100", "@200"))} == set()


def test_a_task_without_weight_is_said_and_not_measured(finished):
    assert "task unused has weight 0" in finished.told
    assert not [key for key in metrics_of(finished.folder) if "unused" in key]


def test_what_was_read_and_how_it_was_cut_is_said(finished):
    assert "800 rows read" in finished.told
    assert "2 items of the log have no row in the items file" in finished.told
    assert "seconds (detected)" in finished.told
    assert "test: 80 rows" in finished.told


def test_what_is_said_into_a_file_has_no_empty_lines(finished):
    assert "\n\n" not in finished.told


def test_slices_and_costs_are_kept(finished):
    sliced = json.loads((finished.folder / "slices.json").read_text())
    assert set(sliced) == set(WHATS)
    one = sliced["recommender"]
    assert {frozenset(entry) for part in one.values() for entry in part.values()} == {
        frozenset({"value", "low", "high", "n"})
    }
    costs = json.loads((finished.folder / "resources.json").read_text())
    assert all(cost["seconds"] >= 0 and cost["peak_mib"] > 0 for cost in costs)
    assert len(costs) > 6


def test_evaluate_gives_the_metrics_of_fit_again(finished, copied, tandem):
    (copied / "metrics.json").unlink()
    ended = tandem("evaluate", copied, "--json")
    assert ended.status == 0, ended
    again = json.loads(ended.out)
    assert again == metrics_of(copied)
    assert flat(again) == pytest.approx(flat(metrics_of(finished.folder)), abs=1e-5)


def weights(run):
    """The last weights of every stage of a run, by file."""
    return {file: file.stat().st_mtime_ns for file in run.rglob("ckpt-*.data-*")}


def test_a_stopped_fit_goes_on_and_ends_as_one_that_was_not(
    finished, tandem, monkeypatch, tmp_path
):
    run, config = tmp_path / "run", finished.config.parent / "without_refit.yaml"
    config.write_text(finished.config.read_text().replace("refit: all", "refit: none"))

    def power_cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(system, "fit_ranker", power_cut)
        stopped = tandem("fit", config, "--run", run)
    assert stopped.status == 130
    assert "goes on" in stopped.err
    assert tandem("evaluate", run).error.endswith("go on with `tandem fit` into it")
    before = weights(run)
    assert {file.parts[-3] for file in before} == {"first_retriever", "retriever"}
    done = tandem("fit", config, "--run", run)
    assert done.status == 0, done
    after = weights(run)
    assert {file: after[file] for file in before} == before
    expected = flat(metrics_of(finished.folder))
    assert flat(metrics_of(run)) == pytest.approx(expected, abs=1e-5)


def test_another_config_is_refused_in_a_run_and_nothing_is_lost(copied, finished, tandem):
    config = finished.config.parent / "changed.yaml"
    text = finished.config.read_text()
    config.write_text(text.replace("text_buckets: 64", "text_buckets: 128"))
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    error = tandem("fit", config, "--run", copied).error
    assert "features.text_buckets was 64 and is now 128" in error
    assert "--run" in error
    assert {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()} == before


def test_a_config_mended_after_bad_input_may_use_the_same_folder(write_data, tandem, tmp_path):
    file = write_data(tmp_path / "data", data={"events": "events.csv", "user_id": "who"})
    run = tmp_path / "run"
    assert "who" in tandem("fit", file, "--run", run).error
    write_data(tmp_path / "data", data={"events": "events.csv", "item_id": "what"})
    assert "what" in tandem("fit", file, "--run", run).error


def test_the_refitted_models_are_the_ones_that_ship(finished, published):
    from tandem.config import load_config
    from tandem.fit import shipped_folder

    assert shipped_folder(finished.folder, load_config(finished.config)).name == "refit"
    manifest = published.manifest
    assert manifest.metrics_of == "the models before the refit"
    assert manifest.metrics == metrics_of(finished.folder)
    vocabulary = "features/retrieval_and_ranking_windows/items/item_id.tsv"
    before, after = (
        (folder / vocabulary).read_text() for folder in (finished.folder, finished.folder / "refit")
    )
    counts = [
        sum(int(line.split("\t")[1]) for line in text.splitlines()) for text in (before, after)
    ]
    assert counts[0] < counts[1]
    assert manifest.vocabularies[vocabulary].values == len(after.splitlines())
    assert manifest.window.events == 800


def test_a_bundle_says_what_it_was_made_from(finished, published):
    manifest = published.manifest
    assert manifest.config["data"]["events"] == str(finished.config.parent / "events.csv")
    assert [feature["name"] for feature in manifest.schema_["item"]] == ["title"]
    assert set(manifest.tasks) == {"retrieval", "rating", "purchase"}


def test_order_without_times_repeats_and_nothing_but_retrieval(write_data, tandem, tmp_path):
    config = write_data(
        tmp_path / "data",
        data={"events": "events.csv", "timestamp": None},
        split={"kind": "leave_last_out"},
        repeats="keep",
    )
    ended = tandem("fit", config, "--run", tmp_path / "run")
    assert ended.status == 0, ended
    metrics = metrics_of(tmp_path / "run")
    assert not [key for key in metrics if key.startswith("ranking.")]
    # everyone with three events has a test event, and with repeats each of them is a query
    assert metrics["recommender.ndcg@10"]["n"] == 60


def test_order_cannot_be_split_by_time(write_data, tmp_path):
    from rich.console import Console

    from tandem.config import load_config
    from tandem.fit import fit

    config = write_data(tmp_path / "data", data={"events": "events.csv", "timestamp": None})
    with pytest.raises(UserError, match="leave_last_out"):
        fit(load_config(config), run=tmp_path / "run", console=Console(quiet=True))


def test_a_second_retriever_goes_on_where_the_first_ran_out_of_time(finished, tandem, tmp_path):
    content = yaml.safe_load(finished.config.read_text()) | {"refit": "none"}
    content["retrieval"] |= {"max_minutes": 1e-9, "schedule": {"max_epochs": 5}}
    config = finished.config.parent / "hasty.yaml"
    config.write_text(yaml.safe_dump(content))
    assert tandem("fit", config, "--run", tmp_path / "run").status == 0
    hasty, patient = (
        json.loads((run / "choices.json").read_text())
        for run in (tmp_path / "run", finished.folder)
    )
    assert hasty["continued"] and not patient["continued"]
    assert hasty["first_retriever_steps"] == hasty["retriever_steps"] == 1
