import shutil

import numpy as np
import pytest

from export.manifest import read_bundle
from features.backend import tf


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, without a bundle."""
    ignore = shutil.ignore_patterns("bundle")
    return shutil.copytree(finished.folder, tmp_path / "run", ignore=ignore)


def lists(bundle, *users):
    """The item ids that the exported recommender gives each user."""
    model = tf.saved_model.load(str(bundle.model("recommender")))
    answer = model.signatures["serving_default"](user_id=tf.constant(users))
    pairs = zip(answer["item_id"].numpy(), answer["count"].numpy(), strict=True)
    return [{name.decode() for name in names[:count]} for names, count in pairs]


def holds(bundle, word):
    """Whether a file of the bundle's version holds the bytes of `word`."""
    return any(
        word in file.read_bytes()
        for name in ("retrieval", "ranking", "recommender")
        for file in bundle.model(name).rglob("*")
        if file.is_file()
    )


@pytest.mark.slow
def test_a_run_is_exported_again_with_another_catalogue_later_events_and_fewer_users(
    run, tandem, tmp_path
):
    events = tmp_path / "later.csv"
    header = "user_id,item_id,timestamp,rating,bought,device"
    events.write_text(
        "\n".join([header, "u3,i5,1700000000,5,0,phone", "quiet,i6,1700000001,5,0,phone", ""])
    )
    items = tmp_path / "now.csv"
    items.write_text(
        "\n".join(
            ["item_id,title", *(f"i{n},thing {n % 4}" for n in range(8)), "fresh,thing 1", ""]
        )
    )
    (tmp_path / "gone.txt").write_text("u7\n")

    ended = tandem("export", run)
    assert ended.status == 0, ended
    before = read_bundle(run / "bundle")
    assert before.manifest.renewal is None
    assert holds(before, b"u7\n")

    ended = tandem(
        "export", run, "--items", items, "--events", events, "--forget-users", tmp_path / "gone.txt"
    )
    assert ended.status == 0, ended
    assert "9 items offered: 1 new" in ended.out
    assert "still hold forgotten users" in ended.out
    after = read_bundle(run / "bundle")
    renewal = after.manifest.renewal
    assert (after.manifest.version, renewal.users_forgotten, renewal.events_new) == (2, 1, 2)
    assert not holds(after, b"u7\n")
    offered = {*(f"i{n}" for n in range(8)), "fresh"}
    for found in lists(after, "u3", "quiet", "u7", "nobody"):
        assert found <= offered
        assert "fresh" in found
    u3, quiet = lists(after, "u3", "quiet")
    assert "i5" not in u3
    assert "i6" not in quiet
    assert "i6" in lists(before, "quiet")[0]

    # nobody comes back, whatever the next export is asked for
    ended = tandem("export", run, "--keep", 1)
    assert ended.status == 0, ended
    last = read_bundle(run / "bundle")
    assert not holds(last, b"u7\n")
    assert [folder.name for folder in (run / "bundle" / "recommender").iterdir()] == ["3"]
    assert len(lists(last, "u3")[0]) > len(u3)


@pytest.mark.slow
def test_an_item_that_no_model_knows_lies_near_those_of_its_content(run, tandem, tmp_path):
    items = tmp_path / "now.csv"
    known = [f"i{n},thing {n % 4} of kind {n % 3}" for n in range(24)]
    items.write_text("\n".join(["item_id,title", *known, "twin,thing 1 of kind 1", ""]))
    assert tandem("export", run, "--items", items).status == 0
    model = tf.saved_model.load(str(read_bundle(run / "bundle").model("retrieval")))
    names = ["twin", *(f"i{n}" for n in range(24))]
    found = model.signatures["embed_item"](item_id=tf.constant(names))["embedding"].numpy()[:, :-1]
    unknown = model.signatures["embed_item"](item_id=tf.constant(["nobody knows"]))
    apart = np.linalg.norm(found[0] - unknown["embedding"].numpy()[0, :-1])
    assert apart > 1e-3, "its content must say something"


@pytest.mark.parametrize("option", ["--items", "--events", "--forget-users"])
def test_a_file_that_is_not_there_is_named(finished, tandem, tmp_path, option):
    error = tandem("export", finished.folder, option, tmp_path / "missing.csv").error
    assert "missing.csv" in error
