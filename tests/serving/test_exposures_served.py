"""The exposure log of a running server, through both doors."""

import json
import urllib.request

import pyarrow.parquet as pq

from serving.client import RecommenderClient
from serving.options import ServerOptions
from serving.server import serve


def ask_both_doors(server, user):
    with RecommenderClient(server.address) as client:
        client.recommend([user], k=1)
    body = json.dumps({"inputs": {"user_id": [user]}}).encode()
    url = f"http://{server.rest_address}/v1/models/recommender:predict"
    with urllib.request.urlopen(url, data=body, timeout=20) as answer:
        assert answer.status == 200


def test_what_both_doors_answer_is_logged_when_the_server_has_stopped(bundle, tmp_path):
    folder = tmp_path / "exposures"
    options = ServerOptions(
        bundle=bundle, grpc_port=0, rest_api_port=0,
        exposure_log=folder, exposure_log_share=1.0, exposure_log_places=2,
    )  # fmt: skip
    with serve(options) as server:
        ask_both_doors(server, "zoë")
    (shard,) = folder.iterdir()
    rows = pq.read_table(shard).to_pylist()
    assert [row["item_id"] for row in rows] == ["zoë/0", "zoë/1"] * 2
    assert {row["version"] for row in rows} == {3}


def test_nothing_is_logged_unless_asked_for(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*.parquet"))
    with serve(ServerOptions(bundle=bundle, grpc_port=0, rest_api_port=0)) as server:
        ask_both_doors(server, "ann")
    assert set(tmp_path.rglob("*.parquet")) == before
