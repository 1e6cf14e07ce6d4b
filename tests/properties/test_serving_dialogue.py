"""The client's dialogue, driven without a connection."""

import grpc
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving import messages
from serving.client_errors import RequestError
from serving.dialogue import Dialogue, Pause, Send
from serving.requests import RecommendRequest
from serving.tensors import to_array, to_tensor


class Unavailable(grpc.RpcError):
    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "away"


def answered(request):
    users = [user.decode() for user in to_array(request.inputs["user_id"])]
    response = messages.PredictResponse()
    for name, values in {
        "item_id": [[f"item of {user}"] for user in users],
        "score": np.zeros((len(users), 1), np.float32),
        "retrieval_score": np.zeros((len(users), 1), np.float32),
        "count": np.ones(len(users), np.int32),
    }.items():
        response.outputs[name].CopyFrom(to_tensor(values))
    return response


class Play:
    """Takes a dialogue's steps on a clock of its own; the first tries of each request fail."""

    def __init__(self, failures):
        self.now = 0.0
        self.failures = iter(failures)
        self.sends, self.pauses = [], []

    def take(self, steps):
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = next(steps)
                elif next(self.failures, False):
                    self.sends.append(step)
                    step = steps.throw(Unavailable())
                else:
                    self.sends.append(step)
                    assert isinstance(step, Send)
                    step = steps.send(answered(step.request))
        except StopIteration as end:
            return end.value


@given(users=st.lists(st.text(max_size=4), max_size=30), most=st.integers(1, 12))
def test_however_users_are_split_each_gets_the_own_list(users, most):
    play = Play(failures=[])
    dialogue = Dialogue("host:1", max_batch=most, clock=lambda: play.now)
    lists = play.take(dialogue.recommend(RecommendRequest(users, k=1), timeout=None))
    assert [one.user_id for one in lists] == users
    assert [one.items[0].item_id for one in lists] == [f"item of {user}" for user in users]
    sizes = [len(send.request.inputs["user_id"].string_val) for send in play.sends]
    assert sum(sizes) == len(users)
    assert len(sizes) == -(-len(users) // most)
    assert all(0 < size <= most for size in sizes)


@given(
    failures=st.lists(st.booleans(), max_size=40),
    retries=st.integers(0, 8),
    timeout=st.floats(0.05, 20),
)
def test_no_retry_is_one_too_many_or_too_late(failures, retries, timeout):
    play = Play(failures)
    dialogue = Dialogue("host:1", retries=retries, max_batch=1, clock=lambda: play.now)
    steps = dialogue.recommend(RecommendRequest(["a", "b"], k=1), timeout=timeout)
    try:
        assert len(play.take(steps)) == 2
    except RequestError as error:
        assert error.code is grpc.StatusCode.UNAVAILABLE
    assert play.now < timeout
    assert all(0 < send.timeout <= timeout for send in play.sends)
    assert len(play.sends) <= 2 * (retries + 1)
    assert all(0.05 <= pause <= 2 for pause in play.pauses)
