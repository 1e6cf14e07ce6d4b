import json
import shutil

import pytest

from interactions.errors import UserError
from serving.errors import ServingError
from serving.sources import BundleCheck


def damage(bundle, model):
    (file,) = (bundle / model).glob("*/saved_model.pb")
    file.write_bytes(b"damaged")


@pytest.fixture
def two(bundle):
    """A bundle that lists the files of a second model, which is not served."""
    shutil.copytree(bundle / "recommender", bundle / "ranking")
    manifest = json.loads((bundle / "manifest.json").read_text())
    listed = manifest["checksums"]
    manifest["checksums"] = listed | {
        name.replace("recommender", "ranking"): checksum for name, checksum in listed.items()
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def test_what_is_served_is_checked_at_the_start_and_the_rest_when_it_is_wanted(two):
    damage(two, "ranking")
    check = BundleCheck(two, models={"recommender"})
    check.finish()
    check.check("recommender")
    with pytest.raises(ServingError, match=r"ranking/\d+/saved_model\.pb is damaged"):
        check.check("ranking")


def test_damage_of_what_is_served_is_told_at_the_start(two):
    damage(two, "recommender")
    check = BundleCheck(two, models={"recommender"})
    with pytest.raises(UserError, match=r"recommender/\d+/saved_model\.pb is damaged"):
        check.finish()


def test_a_manifest_that_changes_has_everything_checked_again(two):
    check = BundleCheck(two, models={"recommender"})
    check.finish()
    damage(two, "recommender")
    check.check("recommender")  # as it was found
    manifest = json.loads((two / "manifest.json").read_text())
    (two / "manifest.json").write_text(json.dumps(manifest, indent=1))
    with pytest.raises(ServingError, match="is damaged"):
        check.check("ranking")
