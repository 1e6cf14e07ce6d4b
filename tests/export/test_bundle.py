import json
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import export.bundle
from export.bundle import export_bundle
from export.config import ExportConfig
from export.description import Provenance
from export.manifest import read_bundle
from export.parity import ParityError
from features.backend import tf
from interactions.errors import UserError

SMALL = ExportConfig(max_k=5, max_batch=4, parity_users=4)


@pytest.fixture
def bundle(exported_bundle, tmp_path):
    """A copy to break."""
    return Path(shutil.copytree(exported_bundle.folder, tmp_path / "bundle"))


def test_a_bundle_says_what_it_is(exported_bundle):
    manifest = read_bundle(exported_bundle.folder).manifest
    assert manifest == exported_bundle.manifest
    assert (manifest.version, manifest.widths.max_k, manifest.widths.candidates) == (1, 10, 12)
    assert (manifest.window.users, manifest.window.items, manifest.window.events) == (60, 40, 900)
    assert manifest.tasks["rating"].kind == "regression"
    assert manifest.index.is_exact
    assert manifest.index.recall == 1.0
    assert set(manifest.parity.largest_difference) == {"retrieval", "ranking", "recommender"}
    assert max(manifest.parity.largest_difference.values()) < 1e-4
    models = {name.split("/")[0] for name in manifest.checksums}
    assert models == {"retrieval", "ranking", "recommender"}


def test_every_file_of_the_models_has_a_checksum(exported_bundle):
    listed = set(exported_bundle.manifest.checksums)
    written = {
        file.relative_to(exported_bundle.folder).as_posix()
        for file in exported_bundle.folder.glob("*/*/**/*")
        if file.is_file()
    }
    assert listed == written


@pytest.mark.parametrize("change", ["altered", "missing"])
def test_a_damaged_file_is_refused_by_name(bundle, change):
    file = bundle / "ranking" / "1" / "variables" / "variables.index"
    if change == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"ranking/1/variables/variables\.index .*export the bun"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "not a bundle"),
        ("{", "broken"),
        ("[]", "broken"),
        ('{"format": 1}', "broken .*version"),
        ('{"format": 99}', "update Tandem"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=says):
        read_bundle(tmp_path)


def test_versions_count_up_and_old_ones_go(trained_system, bundle):
    (bundle / "models.config").write_text("# edited by an operator\n")
    vocabulary = bundle.parent / "words.tsv"
    vocabulary.write_text("red\t3\nblue\t1\n")
    provenance = Provenance(metrics={"a.b": {"value": 1.0}}, vocabularies={"words": vocabulary})
    config = SMALL.model_copy(update={"keep": 1})
    made = export_bundle(trained_system, folder=bundle, config=config, provenance=provenance)
    assert made.manifest.version == 2
    assert made.manifest.metrics == {"a.b": {"value": 1.0}}
    assert made.manifest.vocabularies["words"].values == 2
    assert read_bundle(bundle).manifest == made.manifest
    for model in ("retrieval", "ranking", "recommender"):
        assert [folder.name for folder in (bundle / model).iterdir()] == ["2"]
    assert (bundle / "models.config").read_text() == "# edited by an operator\n"
    assert not [entry for entry in bundle.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("step", ["save_model", "write_serving_files"])
def test_a_killed_export_leaves_the_bundle_as_it_was(trained_system, bundle, monkeypatch, step):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(export.bundle, step, killed)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(trained_system, folder=bundle, config=SMALL)
    found = read_bundle(bundle)
    assert found.manifest.version == 1
    model = tf.saved_model.load(str(found.model("recommender")))
    answer = model.signatures["serving_default"](user_id=tf.constant(["user 1 é"]))
    assert answer["count"].numpy() > 0


def test_a_version_that_was_taken_away_gives_its_number_to_no_other(trained_system, bundle):
    for model in ("retrieval", "ranking", "recommender"):
        shutil.rmtree(bundle / model / "1")
    assert export_bundle(trained_system, folder=bundle, config=SMALL).manifest.version == 2


@pytest.mark.parametrize("allowed", [30_000, 200_000])
def test_a_disk_that_takes_no_more_leaves_the_bundle_as_it_was(
    trained_system, bundle, monkeypatch, allowed
):
    """The kernel refuses every write beyond a size, whoever writes, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written .*room; a version that was there"):
            export_bundle(trained_system, folder=bundle, config=SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert read_bundle(bundle).manifest.version == 1
    assert not [entry for entry in bundle.iterdir() if entry.name.startswith(".")]
    assert [folder.name for folder in (bundle / "recommender").iterdir()] == ["1"]


def test_models_that_answer_otherwise_are_not_published(trained_system, bundle, monkeypatch):
    searcher = trained_system.searcher
    right = searcher.embeddings
    wrong = right.copy()
    wrong[::2] += 0.05
    searcher.index.replace(wrong)
    try:
        with pytest.raises(ParityError, match=r"retrieval\.score.*nothing was published"):
            export_bundle(trained_system, folder=bundle, config=SMALL)
    finally:
        searcher.index.replace(right)
    assert read_bundle(bundle).manifest.version == 1
    assert not (bundle / "recommender" / "2").exists()


def test_a_changed_ranker_is_noticed(trained_system, exported_bundle):
    from export.parity import check_parity
    from export.signatures import MODELS, Widths

    weight = trained_system.ranker.trainable_variables[0]
    before = weight.numpy()
    weight.assign(before + 1.0)
    try:
        with pytest.raises(ParityError, match=r"ranking\."):
            check_parity(
                trained_system,
                {name: exported_bundle.model(name) for name in MODELS},
                widths=Widths(max_k=10, candidates=12),
                tolerance=1e-4,
                users=10,
                batch=8,
            )
    finally:
        weight.assign(before)


def test_what_cannot_be_served_is_refused_before_anything_is_written(trained_system, tmp_path):
    folder = tmp_path / "bundle"
    with pytest.raises(UserError, match=r"export\.max_k is 13.*ranking\.candidates = 12"):
        export_bundle(trained_system, folder=folder, config=ExportConfig(max_k=13))
    assert not folder.exists()


def test_an_id_with_a_line_end_is_refused_by_name(trained_system, tmp_path):
    ids = trained_system.log.item_ids.copy()
    ids[3] = "two\nlines"
    system = replace(trained_system, log=replace(trained_system.log, item_ids=ids))
    with pytest.raises(UserError, match=r"item_ids has the id 'two\\nlines'"):
        export_bundle(system, folder=tmp_path / "bundle", config=SMALL)


def test_a_folder_that_cannot_be_written_is_one_clear_line(trained_system, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*choose a folder"):
        export_bundle(trained_system, folder=tmp_path / "file" / "bundle", config=SMALL)


LOAD = """
import json, sys
import tensorflow as tf
for folder in sys.argv[1:]:
    signatures = tf.saved_model.load(folder).signatures
    if "ranking" not in folder:
        user = tf.constant(["user 1 \\u00e9"])
        found = signatures["serving_default"](user_id=user)
        print(json.dumps([name.decode() for name in found["item_id"].numpy()[0]]))
ours = {"export", "retrieval", "ranking", "features", "tensorflow_recommenders", "scann"}
assert not ours & set(sys.modules), ours & set(sys.modules)
"""


def test_the_models_need_nothing_but_tensorflow(exported_bundle, ask, tmp_path):
    folders = [str(exported_bundle.model(name)) for name in ("ranking", "recommender")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *folders],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = ask("recommender", user_id=["user 1 é"])["item_id"][0]
    assert json.loads(done.stdout.splitlines()[-1]) == [name.decode() for name in expected]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["retrieval", "ranking", "recommender"])
def test_saved_model_cli_runs_every_default_signature(exported_bundle, tmp_path, model):
    inputs = "user_id=['user 1 é']"
    if model == "ranking":
        inputs += ";item_id=[['item-1','item-2']];retrieval_score=[[0.5,0.25]]"
    command = [str(Path(sys.executable).parent / "saved_model_cli"), "run", "--tag_set", "serve"]
    command += ["--dir", str(exported_bundle.model(model)), "--signature_def", "serving_default"]
    command += ["--input_exprs", inputs, "--outdir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.isfinite(np.load(tmp_path / "score.npy")).all()
