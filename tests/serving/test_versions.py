"""Which folders are versions, and when a folder has changed."""

import os

from serving.versions import find_versions, fingerprint


def test_folder_names_parse_as_int64(tmp_path):
    for name in ("1", "00000123", "22", "-4", "3.tmp", "latest", "9223372036854775808", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "500").write_text("a file")
    found = find_versions(tmp_path)
    assert found is not None
    assert list(found) == [123, 22, 1, -4]
    assert found[123].name == "00000123"


def test_a_missing_folder_is_not_an_empty_one(tmp_path):
    assert find_versions(tmp_path) == {}
    assert find_versions(tmp_path / "nope") is None


def test_a_fingerprint_changes_with_every_file(tmp_path):
    before = fingerprint(tmp_path)
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "index").write_text("1")
    first = fingerprint(tmp_path)
    assert first != before
    assert fingerprint(tmp_path) == first
    (tmp_path / "variables" / "index").write_text("22")
    second = fingerprint(tmp_path)
    assert second != first
    os.utime(tmp_path / "variables" / "index", ns=(1, 1))
    assert fingerprint(tmp_path) != second
    assert fingerprint(tmp_path / "nope") == ()
