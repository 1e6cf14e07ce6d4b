"""What a client asks the server, and how often."""

import grpc
import numpy as np
import pytest

from serving import messages
from serving.client_errors import RequestError
from serving.dialogue import METADATA, PREDICT, Dialogue
from serving.requests import RecommendRequest
from serving.tensors import to_array, to_tensor
from serving.wishes import SIGNATURE, Wishes


class Refused(grpc.RpcError):
    def __init__(self, code):
        super().__init__()
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "refused"


class Server:
    """Answers by a version whose lists of exclusions have a width of their own."""

    def __init__(self):
        self.version, self.width, self.asked, self.refusal = 1, 2, [], None

    def recommend(self, dialogue, **wished):
        request = RecommendRequest(["ann"], 1, Wishes(**wished))
        steps = dialogue.recommend(request, timeout=1.0)
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._answer(step)
                except grpc.RpcError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value[0]

    def _answer(self, step):
        self.asked.append("metadata" if step.method is METADATA else "predict")
        if step.method is METADATA:
            return self._metadata()
        assert step.method is PREDICT
        inputs = {name: to_array(tensor) for name, tensor in step.request.inputs.items()}
        if self.refusal is not None:
            raise Refused(self.refusal)
        if inputs["exclude"].shape != (1, self.width):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT)
        response = messages.PredictResponse()
        response.model_spec.version.value = self.version
        for name, values in {
            "item_id": [[f"of {self.version}"]], "count": np.array([1], np.int32),
            "score": np.ones((1, 1), np.float32), "retrieval_score": np.ones((1, 1), np.float32),
        }.items():  # fmt: skip
            response.outputs[name].CopyFrom(to_tensor(values))
        return response

    def _metadata(self):
        signatures = messages.SignatureDefMap()
        signature = signatures.signature_def[SIGNATURE]
        for name, dtype, shape in [
            ("user_id", "DT_STRING", [-1]), ("k", "DT_INT32", [-1]), ("time", "DT_INT64", [-1]),
            ("history", "DT_STRING", [-1, 2]), ("history_time", "DT_INT64", [-1, 2]),
            ("allow", "DT_STRING", [-1, 2]), ("task_weights", "DT_FLOAT", [-1, 1]),
            ("diversity", "DT_FLOAT", [-1]), ("explain", "DT_BOOL", [-1]),
            ("exclude", "DT_STRING", [-1, self.width]),
        ]:  # fmt: skip
            info = signature.inputs[name]
            info.dtype = messages.DataType.values_by_name[dtype].number
            for size in shape:
                info.tensor_shape.dim.add(size=size)
        response = messages.GetModelMetadataResponse()
        response.model_spec.version.value = self.version
        response.metadata["signature_def"].value = signatures.SerializeToString()
        return response


@pytest.fixture
def dialogue():
    return Dialogue("host:1", retries=0)


def test_what_may_be_wished_is_asked_for_once(dialogue):
    server = Server()
    for _ in range(3):
        assert server.recommend(dialogue, exclude=["a"]).items[0].item_id == "of 1"
    assert server.asked == ["metadata", "predict", "predict", "predict"]


def test_another_version_s_answer_is_taken_and_it_is_asked_next_time_what_may_be_wished(dialogue):
    server = Server()
    server.recommend(dialogue, exclude=["a"])
    server.version, server.asked = 2, []
    for _ in range(3):
        assert server.recommend(dialogue, exclude=["a"]).items[0].item_id == "of 2"
    assert server.asked == ["predict", "metadata", "predict", "predict"]


def test_a_request_that_no_longer_fits_is_made_anew(dialogue):
    server = Server()
    server.recommend(dialogue, exclude=["a"])
    server.version, server.width, server.asked = 2, 3, []
    assert server.recommend(dialogue, exclude=["a"]).items[0].item_id == "of 2"
    assert server.asked == ["predict", "metadata", "predict"]
    server.asked = []
    server.recommend(dialogue, exclude=["a"])
    assert server.asked == ["predict"]


def test_a_wish_that_only_the_new_version_has_room_for_is_granted(dialogue):
    server = Server()
    server.recommend(dialogue, exclude=["a"])
    server.version, server.width = 2, 3
    assert server.recommend(dialogue, exclude=["a", "b", "c"]).items[0].item_id == "of 2"


@pytest.mark.parametrize("kept", [False, True])
def test_a_busy_server_is_not_asked_again(dialogue, kept):
    server = Server()
    if kept:
        server.recommend(dialogue, exclude=["a"])
    server.refusal, server.asked = grpc.StatusCode.RESOURCE_EXHAUSTED, []
    with pytest.raises(RequestError):
        server.recommend(dialogue, exclude=["a"])
    assert server.asked.count("predict") == 1
