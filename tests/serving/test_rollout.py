"""Versions come and go: what answers, what the states say, and what a bad version leaves alone."""

import shutil
import threading
import time

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServingError, failed_precondition
from serving.rollout import Repeating, Rollout, RolloutSettings
from serving.table import ServableTable
from serving.versions import State


class Model:
    """Stands for a loaded model: a version folder is good if it holds a file `good`."""

    def __init__(self, name, version, path):
        if not (path / "good").is_file():
            raise failed_precondition(f"{path} is broken")
        self.name, self.version, self.path = name, version, path
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


class World:
    """A folder of models, and a rollout that watches it."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.loads = []
        self.table = ServableTable()
        self.rollout = Rollout(self.table, self.load, settings=RolloutSettings(**settings))

    def load(self, name, version, path):
        self.loads.append((name, version))
        return Model(name, version, path)

    def write(self, *versions, name="m", good=True):
        for version in versions:
            folder = self.folder / name / str(version)
            folder.mkdir(parents=True, exist_ok=True)
            if good:
                (folder / "good").touch()

    def remove(self, version, name="m"):
        shutil.rmtree(self.folder / name / str(version))

    def reload(self, **models):
        entries = " ".join(
            f'config {{ name: "{name}" base_path: "{self.folder / name}" '
            f'model_platform: "tensorflow" {more} }}'
            for name, more in models.items()
        )
        config = model_server_config_pb2.ModelServerConfig()
        text_format.Parse(f"model_config_list {{ {entries} }}", config)
        self.rollout.reload(config)

    def versions(self, name="m"):
        return sorted(self.table.loaded(name), reverse=True)

    def states(self, name="m"):
        return {state.version: state.state for state in self.table.states(name)}


def spec(name="m", version=None, label=None):
    made = model_pb2.ModelSpec(name=name)
    if version is not None:
        made.version.value = version
    if label is not None:
        made.version_label = label
    return made


def eventually(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.table.close()


def policy(text):
    return f"model_version_policy {{ {text} }}"


def label(name, version):
    return f'version_labels {{ key: "{name}" value: {version} }}'


def test_a_newer_version_takes_over_and_the_older_ends(world):
    world.write(1)
    world.reload(m="")
    with world.table.use(spec()) as old:
        assert old.version == 1
        world.write(2)
        world.rollout.poll()
        with world.table.use(spec()) as new:
            assert new.version == 2
        with pytest.raises(ServingError), world.table.use(spec(version=1)):
            pass
        assert world.states()[1] is State.UNLOADING
        assert not old.closed.wait(0.05)
    assert old.closed.wait(5)
    eventually(lambda: world.states() == {2: State.AVAILABLE, 1: State.END})
    assert [state.version for state in world.table.states("m")] == [2, 1]


def test_the_older_version_answers_while_the_newer_loads(world, monkeypatch):
    world.write(1)
    world.reload(m="")
    seen = []

    def load(name, version, path):
        with world.table.use(spec()) as model:
            seen.append((model.version, world.states()[2]))
        return Model(name, version, path)

    monkeypatch.setattr(world.rollout, "_load_version", load)
    world.write(2)
    world.rollout.poll()
    assert seen == [(1, State.LOADING)]


def test_roll_back_and_removal_of_all(world):
    world.write(1, 2)
    world.reload(m="")
    assert world.versions() == [2]
    world.remove(2)
    world.rollout.poll()
    assert world.versions() == [1]
    world.remove(1)
    world.rollout.poll()
    assert world.versions() == []
    with pytest.raises(ServingError) as caught, world.table.use(spec()):
        pass
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert str(caught.value) == "Servable not found for request: Latest(m)"
    world.write(2)
    world.rollout.poll()
    assert world.versions() == [2]
    eventually(lambda: world.states() == {2: State.AVAILABLE, 1: State.END})


def test_a_base_path_that_is_gone_changes_nothing(world):
    world.write(1)
    world.write(1, name="n")
    world.reload(m="", n="")
    (world.folder / "m").rename(world.folder / "away")
    world.write(2, name="n")
    world.rollout.poll()
    assert world.versions() == [1]
    assert world.versions("n") == [2]


def test_a_broken_version_ends_with_its_error_and_blocks_nothing(world):
    world.write(1)
    world.write(1, name="n")
    world.reload(m="", n="")
    world.write(2, good=False)
    world.write(2, name="n")
    world.rollout.poll()
    assert world.versions() == [1]
    assert world.versions("n") == [2]
    broken = world.table.states("m", version=2)[0]
    assert broken.state is State.END
    assert "2 is broken" in str(broken.error)
    world.write(3)
    world.rollout.poll()
    assert world.versions() == [3]


def test_a_broken_version_is_tried_again_when_it_changes(world):
    world.write(1)
    world.reload(m="")
    world.write(2, good=False)
    for _ in range(4):
        world.rollout.poll()
    assert world.loads.count(("m", 2)) == 1
    world.write(2)
    world.rollout.poll()
    assert world.versions() == [2]
    eventually(lambda: world.states() == {2: State.AVAILABLE, 1: State.END})


def test_a_broken_version_is_tried_again_a_few_times(tmp_path):
    world = World(tmp_path, max_num_load_retries=2, load_retry_interval=0.0)
    world.write(1)
    world.reload(m="")
    world.write(2, good=False)
    for _ in range(9):
        world.rollout.poll()
    assert world.loads.count(("m", 2)) == 3
    world.table.close()


def test_a_folder_that_vanishes_while_it_loads(world, monkeypatch):
    world.write(1)
    world.reload(m="")

    def load(name, version, path):
        shutil.rmtree(path)
        (path / "good").stat()

    monkeypatch.setattr(world.rollout, "_load_version", load)
    world.write(2)
    world.rollout.poll()
    world.rollout.poll()
    assert world.versions() == [1]
    (state,) = world.table.states("m", version=2)
    assert state.state is State.END
    assert state.error is not None


def test_policies_decide_what_is_loaded(world):
    world.write(1, 2, 3)
    world.reload(m=policy("all {}"))
    assert world.versions() == [3, 2, 1]
    world.reload(m=policy("specific { versions: 1 }"))
    assert world.versions() == [1]
    world.reload(m=policy("latest { num_versions: 2 }"))
    assert world.versions() == [3, 2]
    world.write(4)
    world.rollout.poll()
    assert world.versions() == [4, 3]


def test_labels_follow_the_config_and_survive_a_refused_one(world):
    world.write(1, 2)
    world.reload(m=policy("all {}"))
    with pytest.raises(ServingError) as caught, world.table.use(spec(label="stable")):
        pass
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    world.reload(m=policy("all {}") + label("stable", 1))
    with world.table.use(spec(label="stable")) as model:
        assert model.version == 1
    with pytest.raises(ServingError) as caught:
        world.reload(m=policy("all {}") + label("stable", 3))
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    with world.table.use(spec(label="stable")) as model:
        assert model.version == 1
    world.reload(m=policy("all {}"))
    with pytest.raises(ServingError), world.table.use(spec(label="stable")):
        pass


def test_labels_at_the_start_need_leave(tmp_path):
    world = World(tmp_path)
    world.write(1)
    with pytest.raises(ServingError) as caught:
        world.reload(m=label("stable", 1))
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert world.versions() == []
    lenient = World(tmp_path, labels_for_unavailable=True)
    lenient.reload(m=label("stable", 1) + label("next", 2))
    with lenient.table.use(spec(label="stable")) as model:
        assert model.version == 1
    with pytest.raises(ServingError) as caught, lenient.table.use(spec(label="next")):
        pass
    assert str(caught.value) == "Servable not found for request: Specific(m, 2)"
    lenient.table.close()


def test_a_reload_replaces_everything(world):
    world.write(1)
    world.write(5, name="n")
    world.reload(m="")
    world.reload(n="")
    assert world.versions("n") == [5]
    eventually(lambda: world.states() == {1: State.END})


def test_a_reload_may_move_a_model(world):
    world.write(1)
    world.write(1, name="n")
    world.reload(m="")
    world.rollout.reload(
        text_format.Parse(
            f'model_config_list {{ config {{ name: "m" base_path: "{world.folder / "n"}" '
            'model_platform: "tensorflow" } }',
            model_server_config_pb2.ModelServerConfig(),
        )
    )
    with world.table.use(spec()) as model:
        assert model.path == world.folder / "n" / "1"
    assert world.states() == {1: State.AVAILABLE}


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("nowhere", "INVALID_ARGUMENT", "Could not find base path"),
        ("empty", "NOT_FOUND", "Unable to find a numerical version path for servable empty at:"),
    ],
)
def test_a_new_model_without_versions_is_refused_and_nothing_changes(world, name, code, text):
    world.write(1)
    (world.folder / "empty").mkdir()
    world.reload(m="")
    with pytest.raises(ServingError) as caught:
        world.reload(**{name: ""})
    assert caught.value.code.name == code
    assert text in str(caught.value)
    assert world.versions() == [1]


def test_a_new_model_that_does_not_load_is_said_and_the_others_stay(world):
    world.write(1)
    world.write(2, name="n", good=False)
    world.reload(m="")
    with pytest.raises(ServingError) as caught:
        world.reload(m="", n="")
    assert caught.value.code is grpc.StatusCode.UNKNOWN
    assert "1 model(s) did not become available: {{{name: n version: 2} due to error:" in str(
        caught.value
    )
    assert world.versions() == [1]
    world.write(2, name="n")
    world.rollout.poll()
    assert world.versions("n") == [2]


def test_what_is_repeated_goes_on_after_an_error():
    calls = []

    def action():
        calls.append(1)
        raise RuntimeError("the disk is away")

    repeating = Repeating(action, interval=0.01, name="watch")
    eventually(lambda: len(calls) >= 3)
    repeating.stop()
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count
