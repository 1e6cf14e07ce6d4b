"""What a server makes of its options."""

import numpy as np
import pytest

from interactions.errors import UserError
from serving.errors import ServingError
from serving.options import ServerOptions
from serving.queueing import Queueing
from serving.runners import RunnerKey

KEY = RunnerKey(model="m", version=1, signature="s", outputs=("y",), inputs=("x",))


class Echo:
    closed = False

    def run(self, inputs, *, deadline=None):
        return dict(inputs)

    def close(self):
        self.closed = True


@pytest.fixture
def batching_file(tmp_path):
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 2 } num_batch_threads { value: 3 }")
    return file


def test_without_batching_any_shape_runs_and_deadlines_count():
    queueing = Queueing.of(ServerOptions(tensorflow_session_parallelism=5, max_queued_requests=7))
    assert (queueing.limits.runs, queueing.limits.waiting) == (5, 7)
    assert queueing.limits.threads > 12
    echo = Echo()
    runner = queueing(echo, KEY)
    assert runner.run({"x": np.array(1.0)})["x"] == 1.0
    with pytest.raises(ServingError, match="Deadline"):
        runner.run({"x": np.array(1.0)}, deadline=0.0)
    runner.close()
    assert echo.closed


def test_with_batching_the_file_rules(batching_file):
    queueing = Queueing.of(
        ServerOptions(enable_batching=True, batching_parameters_file=batching_file)
    )
    assert queueing.limits.runs == 3
    runner = queueing(Echo(), KEY)
    assert runner.run({"x": np.ones(2)})["x"].tolist() == [1.0, 1.0]
    with pytest.raises(ServingError, match="Task size 3"):
        runner.run({"x": np.ones(3)})


def test_batching_without_a_file_has_tf_servings_defaults():
    runner = Queueing.of(ServerOptions(enable_batching=True))(Echo(), KEY)
    assert len(runner.run({"x": np.ones(1000)})["x"]) == 1000
    with pytest.raises(ServingError, match="Task size 1001"):
        runner.run({"x": np.ones(1001)})


def test_a_batching_file_without_batching_is_refused(batching_file):
    with pytest.raises(UserError, match="--enable_batching"):
        Queueing.of(ServerOptions(batching_parameters_file=batching_file))
