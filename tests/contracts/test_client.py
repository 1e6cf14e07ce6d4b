"""What both forms of the client may rely on, from any server that has a bundle.

By default that is the embedded server with a bundle made for the tests. `deploy/smoke.sh` names a
running one, TF Serving's own: TANDEM_SERVER and TANDEM_REST (HOST:PORT) with TANDEM_BUNDLE, the
folder that it serves.
"""

import asyncio
import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from export.manifest import Manifest, read_bundle
from interactions.errors import UserError
from serving.async_client import AsyncRecommenderClient
from serving.client import ModelChoice, PredictRequest, RecommenderClient, RequestError, Wishes

SERVING_DEFAULT = "serving_default"


@dataclass(frozen=True)
class Place:
    """A server and what it serves."""

    grpc: str
    rest: str
    manifest: Manifest
    users: tuple[str, ...]


def known_users(bundle):
    file = bundle.model("recommender") / "assets" / "user_ids.txt"
    return tuple(file.read_text(encoding="utf-8").split("\n")[:5])


@pytest.fixture(scope="module")
def place(request):
    if "TANDEM_SERVER" in os.environ:
        bundle = read_bundle(Path(os.environ["TANDEM_BUNDLE"]))
        addresses = os.environ["TANDEM_SERVER"], os.environ["TANDEM_REST"]
        yield Place(*addresses, bundle.manifest, known_users(bundle))
        return
    from serving.options import ServerOptions
    from serving.server import serve

    bundle = request.getfixturevalue("exported_bundle")
    with serve(ServerOptions(bundle=bundle.folder, grpc_port=0, rest_api_port=0)) as server:
        yield Place(server.address, server.rest_address, bundle.manifest, known_users(bundle))


class Sync:
    """The form that waits."""

    def __init__(self, address):
        self.address = address

    def __getattr__(self, name):
        def call(*given, max_batch=32, **named):
            with RecommenderClient(self.address, max_batch=max_batch) as client:
                return getattr(client, name)(*given, **named)

        return call


class Async(Sync):
    """The asyncio form."""

    def __getattr__(self, name):
        def call(*given, max_batch=32, **named):
            async def asked():
                async with AsyncRecommenderClient(self.address, max_batch=max_batch) as client:
                    return await getattr(client, name)(*given, **named)

            return asyncio.run(asked())

        return call


@pytest.fixture(params=[Sync, Async])
def client(place, request):
    return request.param(place.grpc)


def asked(place):
    return [*place.users, "nobody has this id", "ünknown"]


def test_every_user_gets_a_list_in_order_best_first_without_repeats(client, place):
    users, k = asked(place), place.manifest.widths.max_k
    lists = client.recommend(users, k=k)
    assert [one.user_id for one in lists] == users
    for one in lists:
        scores = [item.score for item in one.items]
        assert 0 < len(one.items) <= k
        assert scores == sorted(scores, reverse=True)
        assert len({item.item_id for item in one.items}) == len(one.items)
        assert all(item.item_id for item in one.items)
        assert all(set(item.tasks) == set(place.manifest.tasks) for item in one.items)


def test_a_shorter_list_is_the_beginning_of_the_longer(client, place):
    (long,) = client.recommend(place.users[:1], k=min(5, place.manifest.widths.max_k))
    (short,) = client.recommend(place.users[:1], k=2)
    assert [item.item_id for item in short.items] == [item.item_id for item in long.items[:2]]


def test_wishes_are_granted(client, place):
    users = asked(place)
    plain = client.recommend(users, k=3)
    gone = plain[0].items[0].item_id
    wishes = Wishes(exclude=[gone], explain=True, diversity=0.2, task_weights={"retrieval": 2.0})
    for one in client.recommend(users, k=3, wishes=wishes):
        assert 0 < len(one.items) <= 3
        assert gone not in {item.item_id for item in one.items}
        assert one.task_weights["retrieval"] == 2.0
        assert all(item.because_score is None or item.because for item in one.items)
    only = client.recommend(users[:1], k=3, wishes=Wishes(allow=[gone]))
    assert [item.item_id for item in only[0].items] == [gone]
    assert client.recommend(users[:1], k=3, wishes=Wishes(allow=[]))[0].items == ()
    same = client.recommend(users, k=3, wishes=Wishes())
    for one, other in zip(plain, same, strict=True):
        assert [item.item_id for item in one.items] == [item.item_id for item in other.items]


def test_a_wish_that_the_model_does_not_know_is_refused(client, place):
    with pytest.raises(UserError, match="no input 'only_planet'"):
        client.recommend(place.users[:1], k=1, wishes=Wishes(only={"planet": ["mars"]}))


def test_alone_together_and_split_are_the_same(client, place):
    users = asked(place)
    together = client.recommend(users, k=3)
    for other in (
        client.recommend(users, k=3, max_batch=2),
        [client.recommend([user], k=3)[0] for user in users],
    ):
        for one, same in zip(together, other, strict=True):
            assert one.user_id == same.user_id
            np.testing.assert_allclose(
                [item.score for item in one.items],
                [item.score for item in same.items],
                rtol=1e-4, atol=1e-4,
            )  # fmt: skip


def test_the_signatures_are_those_of_the_manifest(client, place):
    metadata = client.model_metadata()
    assert metadata.version == place.manifest.version
    for name, written in place.manifest.signatures["recommender"].items():
        found = metadata.signatures[name]
        for ours, theirs in ((written.inputs, found.inputs), (written.outputs, found.outputs)):
            assert {key: entry.shape for key, entry in ours.items()} == {
                key: spec.shape for key, spec in theirs.items()
            }
            assert {key: entry.dtype for key, entry in ours.items()} == {
                key: TENSORFLOW_NAMES[spec.dtype] for key, spec in theirs.items()
            }


TENSORFLOW_NAMES = {
    "DT_STRING": "string", "DT_FLOAT": "float32", "DT_INT32": "int32", "DT_INT64": "int64",
    "DT_BOOL": "bool",
}  # fmt: skip


def test_the_manifests_version_is_available(client, place):
    states = {status.version: status.state for status in client.model_status()}
    assert states[place.manifest.version] == "AVAILABLE"


def test_predict_answers_what_recommend_reads(client, place):
    model = ModelChoice("recommender", version=place.manifest.version)
    request = PredictRequest(model, {"user_id": place.users[:2]}, outputs=("count", "item_id"))
    answer = client.predict(request)
    assert (answer.model, answer.version) == ("recommender", place.manifest.version)
    assert answer.signature == SERVING_DEFAULT
    assert set(answer.outputs) == {"count", "item_id"}
    lists = client.recommend(place.users[:2], k=1)
    first = [names[0].decode() for names in answer.outputs["item_id"]]
    assert first == [one.items[0].item_id for one in lists]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (PredictRequest("no such model", {"user_id": ["u"]}), "NOT_FOUND"),
        (PredictRequest(ModelChoice("recommender", version=987), {"user_id": ["u"]}), "NOT_FOUND"),
        (
            PredictRequest(ModelChoice("recommender", label="nowhere"), {"user_id": ["u"]}),
            "INVALID_ARGUMENT",
        ),
        (PredictRequest("recommender", {"user": ["u"]}), "INVALID_ARGUMENT"),
        (PredictRequest("recommender", {"user_id": [1.0]}), "INVALID_ARGUMENT"),
        (PredictRequest("recommender", {"user_id": ["u"]}, "no such"), "FAILED_PRECONDITION"),
    ],
)
def test_a_refusal_has_its_code(client, request_, code):
    with pytest.raises(RequestError) as caught:
        client.predict(request_)
    assert caught.value.code is grpc.StatusCode[code]


def test_a_deadline_that_cannot_be_met_is_kept(client, place):
    with pytest.raises(RequestError) as caught:
        client.recommend(place.users, k=1, timeout=0.0)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_rest_says_the_same(client, place):
    body = json.dumps({"instances": [{"user_id": user} for user in place.users]}).encode()
    url = f"http://{place.rest}/v1/models/recommender:predict"
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as answer:
        rows = json.load(answer)["predictions"]
    for one, row in zip(client.recommend(place.users, k=3), rows, strict=True):
        count = min(3, row["count"])
        scores = [item.score for item in one.items]
        np.testing.assert_allclose(scores, row["score"][:count], rtol=1e-4, atol=1e-4)
