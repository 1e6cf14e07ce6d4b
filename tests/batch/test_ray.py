import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.local import batch_recommend
from interactions.errors import UserError


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "batch.ray", raising=False)
    with pytest.raises(UserError, match=r"pip install tandem\[ray\]"):
        import batch.ray  # noqa: F401


@pytest.mark.slow
def test_ray_gives_the_local_rows(exported_bundle, trained_system, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from batch.ray import batch_recommend_on_ray

    users = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": [*trained_system.log.user_ids, "nobody"]}), users)
    local = batch_recommend(exported_bundle.folder, users, tmp_path / "local", k=3)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
    try:
        out = batch_recommend_on_ray(exported_bundle.folder, users, tmp_path / "ray", k=3, chunk=20)
    finally:
        ray.shutdown()
    order = [("user_id", "ascending"), ("rank", "ascending")]
    found = pq.read_table(out).sort_by(order)
    expected = pa.concat_tables(
        pq.read_table(shard) for shard in sorted(local.folder.glob("part-*.parquet"))
    ).sort_by(order)
    assert found.select(["user_id", "rank", "item_id"]).equals(
        expected.select(["user_id", "rank", "item_id"])
    )
