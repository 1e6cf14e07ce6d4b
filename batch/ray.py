"""Batch recommendations on a Ray cluster: the same answers, spread over Ray Data."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from batch.answers import Answerer, check_k
from batch.users import checked_ids, csv_options, is_parquet
from export.manifest import read_bundle
from export.signatures import USER_ID
from interactions.errors import UserError

try:
    import ray.data
except ImportError as error:
    raise UserError(
        "batch recommendations on Ray need Ray, which is not installed; pip install tandem[ray]"
    ) from error


class _Worker:
    """A process of the cluster with a model of its own."""

    def __init__(self, bundle: str, users_file: str, k: int) -> None:
        self._answer = Answerer(read_bundle(Path(bundle)), k=k)
        self._file = Path(users_file)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._answer(checked_ids(batch[USER_ID], file=self._file))


def batch_recommend_on_ray(
    bundle: Path, users_file: Path, out: Path, *, k: int, chunk: int = 1024, workers: int = 1
) -> Path:
    """Recommend `k` items to every user of a file, as `batch_recommend`, by `workers` processes.

    The order of the rows is left to Ray, and a job that was stopped begins anew. `bundle`,
    `users_file` and `out` must be reachable under the same path from every machine of the cluster.

    Raises:
        UserError: the bundle cannot be read, `k` is impossible, or `out` is not empty.
    """
    check_k(read_bundle(bundle), k)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; give a new --out folder")
    where = str(users_file.resolve())
    if is_parquet(users_file):
        users = ray.data.read_parquet(where, columns=[USER_ID])
    else:
        users = ray.data.read_csv(where, convert_options=csv_options())
    users.map_batches(
        _Worker,
        fn_constructor_args=(str(bundle.resolve()), where, k),
        batch_size=chunk,
        batch_format="pyarrow",
        concurrency=workers,
    ).write_parquet(str(out.resolve()))
    return out
