"""The training loop on a line fitted to points: stopping, resuming, failing."""

import json

import numpy as np
import pytest

from features.backend import tf
from interactions.errors import UserError
from training.config import ScheduleConfig
from training.dropout import dropout, hide_ids
from training.loop import Plan, TrainingError, restore, train
from training.optimizer import adam, apply_gradients, trained_weights

STEPS = 5
SCHEDULE = ScheduleConfig(learning_rate=0.05, max_epochs=4, patience=2)


class Line(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(tf.ones([3]) * 0.1, name="weight")

    def __call__(self, x, seed):
        return tf.linalg.matvec(dropout(x, 0.5, seed, salt=1), self.weight)


class Run:
    """A model, its optimiser and a plan whose training can be made to fail or stop."""

    def __init__(self, *, stop_at=None, nan_at=None, scores=None, infinite=False):
        self.model = Line()
        self.optimizer = adam(self.model.trainable_variables, config=SCHEDULE)
        self.losses, self.seeds = [], []
        self._stop_at, self._nan_at = stop_at, nan_at
        self._scores = None if scores is None else iter(scores)

    def step(self, batch, seed):
        number = int(seed[1])
        if number == self._stop_at:
            raise KeyboardInterrupt
        with tf.GradientTape() as tape:
            error = self.model(tf.constant(batch["x"]), seed) - batch["y"]
            loss = tf.reduce_mean(tf.square(error))
        apply_gradients(self.optimizer, tape, loss, self.model.trainable_variables, config=SCHEDULE)
        self.losses.append(float(loss))
        self.seeds.append(tuple(seed.numpy().tolist()))
        return {"loss": loss if number != self._nan_at else loss * float("nan")}

    def plan(self, *, validated=True):
        return Plan(
            name="line",
            weights={"model": trained_weights(self.model), "optimizer": self.optimizer},
            batches=batches,
            steps_per_epoch=STEPS,
            step=self.step,
            validate=self._validate if validated else None,
        )

    def _validate(self):
        if self._scores is not None:
            return next(self._scores)
        return -float(tf.reduce_sum(tf.square(self.model.weight - [1.0, 2.0, 3.0])))

    def train(self, folder, *, validated=True, steps=None):
        return train(
            self.plan(validated=validated), config=SCHEDULE, folder=folder, seed=7, steps=steps
        )

    @property
    def weights(self):
        return self.model.weight.numpy().tolist()


def batches(epoch):
    rng = np.random.default_rng([3, epoch])
    for _ in range(STEPS):
        x = rng.normal(size=(8, 3)).astype(np.float32)
        yield {"x": x, "y": x @ np.array([1.0, 2.0, 3.0], np.float32)}


@pytest.mark.parametrize("stop_at", [2, 5, 12, 19])
def test_a_stopped_run_resumes_as_if_it_had_not_been_stopped(tmp_path, stop_at):
    whole, first, second = Run(), Run(stop_at=stop_at), Run()
    wanted = whole.train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        first.train(tmp_path / "stopped")
    found = second.train(tmp_path / "stopped")
    done = stop_at // STEPS * STEPS
    assert first.losses[:done] + second.losses == whole.losses
    assert second.weights == whole.weights
    assert found.history == wanted.history
    assert (found.step, found.best, found.best_step) == (wanted.step, wanted.best, wanted.best_step)


def test_stopped_between_the_checkpoint_and_its_record_it_still_resumes_alike(
    tmp_path, monkeypatch
):
    whole, first, second = Run(), Run(), Run()
    whole.train(tmp_path / "whole")

    def stop(path, content):
        if content["epoch"] == 3:
            raise KeyboardInterrupt
        written(path, content)

    written = train.__globals__["_write_json"]
    monkeypatch.setitem(train.__globals__, "_write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        first.train(tmp_path / "stopped")
    monkeypatch.undo()
    second.train(tmp_path / "stopped")
    assert second.losses == whole.losses[2 * STEPS :]
    assert second.weights == whole.weights


def test_an_ended_run_is_only_restored(tmp_path):
    first, second = Run(), Run()
    ended = first.train(tmp_path)
    again = second.train(tmp_path)
    assert not second.losses and second.weights == first.weights
    assert again.history == ended.history


def test_the_weights_of_the_best_epoch_come_back(tmp_path):
    run = Run(scores=[1.0, 3.0, 2.0, 2.5])
    ended = run.train(tmp_path)
    assert ended.best == 3.0 and ended.best_step == 2 * STEPS
    assert ended.epoch == 4
    best = Run()
    best.train(tmp_path / "exact", steps=2 * STEPS, validated=False)
    assert run.weights == best.weights


def test_it_stops_when_patience_is_out(tmp_path):
    ended = Run(scores=[1.0, 0.5, 0.7, 9.0]).train(tmp_path)
    assert ended.epoch == 3 and ended.best == 1.0


@pytest.mark.parametrize("steps", [1, STEPS, 7, 3 * STEPS + 1])
def test_exactly_as_many_steps_as_asked_for(tmp_path, steps):
    run = Run()
    ended = run.train(tmp_path, steps=steps, validated=False)
    assert ended.step == len(run.losses) == steps
    assert ended.done


def test_no_two_steps_share_a_seed(tmp_path):
    run = Run()
    run.train(tmp_path, steps=12, validated=False)
    assert len(set(run.seeds)) == 12


def test_restore_finds_the_best_weights_and_else_the_last(tmp_path):
    for place, validated in (("best", True), ("last", False)):
        run, found = Run(), Line()
        run.train(tmp_path / place, validated=validated, steps=None if validated else 6)
        restore(tmp_path / place, model=trained_weights(found))
        assert found.weight.numpy().tolist() == run.weights


def test_a_loss_that_is_no_number_ends_training_and_keeps_the_last_epoch(tmp_path):
    good = Run()
    good.train(tmp_path / "good", steps=STEPS, validated=False)
    run = Run(nan_at=STEPS + 1)
    with pytest.raises(TrainingError) as error:
        run.train(tmp_path / "bad")
    message = str(error.value)
    assert "loss" in message and "step" in message and str(tmp_path / "bad") in message
    kept = Line()
    tf.train.Checkpoint(model=trained_weights(kept)).restore(
        tf.train.latest_checkpoint(str(tmp_path / "bad" / "latest"))
    ).expect_partial()
    assert kept.weight.numpy().tolist() == good.weights


def test_a_validation_that_is_no_number_ends_training(tmp_path):
    with pytest.raises(TrainingError, match="validation"):
        Run(scores=[float("nan")]).train(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"epoch": 1, "unknown": 2}', json.dumps([1, 2]), '"text"']
)
def test_a_damaged_record_is_one_clear_line(tmp_path, content):
    Run().train(tmp_path, steps=STEPS, validated=False)
    (tmp_path / "progression.json").write_text(content)
    with pytest.raises(UserError) as error:
        Run().train(tmp_path)
    message = str(error.value)
    assert "progression.json" in message and "remove" in message and "\n" not in message


@pytest.mark.parametrize("damage", ["cut", "gone", "garbled"])
@pytest.mark.parametrize("again", ["train", "restore"])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, damage, again):
    Run().train(tmp_path, steps=STEPS, validated=False)
    for file in sorted((tmp_path / "latest").iterdir()):
        if damage == "gone":
            file.unlink()
        elif file.suffix == ".index" or ".data-" in file.name:
            content = file.read_bytes()
            file.write_bytes(
                content[: len(content) // 2] if damage == "cut" else b"\x00" * len(content)
            )
    with pytest.raises(UserError) as error:
        if again == "train":
            Run().train(tmp_path, steps=2 * STEPS, validated=False)
        else:
            restore(tmp_path, model=trained_weights(Line()))
    message = str(error.value)
    assert str(tmp_path) in message and "remove" in message and "\n" not in message


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Run().train(tmp_path, steps=STEPS, validated=False)
    for name in ("a_first", "z_last"):
        other = Line()
        setattr(other, name, tf.Variable(1.0))
        with pytest.raises(UserError, match="remove"):
            restore(tmp_path, model=trained_weights(other))
    other = Line()
    other.weight = tf.Variable(tf.ones([4]))
    with pytest.raises(UserError, match="remove"):
        restore(tmp_path, model=trained_weights(other))


def test_dropout_depends_on_its_seed_and_place_alone():
    values, seed = tf.ones([1000]), tf.constant([1, 2])
    one = dropout(values, 0.4, seed, salt=1).numpy()
    assert (one == dropout(values, 0.4, seed, salt=1).numpy()).all()
    assert (one != dropout(values, 0.4, seed, salt=2).numpy()).any()
    assert (one != dropout(values, 0.4, seed + tf.constant([0, 1]), salt=1).numpy()).any()
    assert abs((one == 0).mean() - 0.4) < 0.06 and abs(one.mean() - 1.0) < 0.1
    assert (dropout(values, 0.4, None, salt=1).numpy() == 1.0).all()


def test_hidden_ids_become_the_unknown_one():
    ids = tf.ones([1000], tf.int32)
    hidden = hide_ids(ids, 0.3, tf.constant([1, 2]), unknown=9, salt=1).numpy()
    assert set(hidden.tolist()) == {1, 9}
    assert abs((hidden == 9).mean() - 0.3) < 0.06
    assert (hide_ids(ids, 0.3, None, unknown=9, salt=1).numpy() == 1).all()


def test_gradients_are_clipped_and_unused_variables_stay():
    model = Line()
    unused = tf.Variable(5.0)
    variables = [model.weight, unused]
    optimizer = adam(variables, config=SCHEDULE)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.weight) * 1e9
    before = model.weight.numpy()
    apply_gradients(optimizer, tape, loss, variables, config=SCHEDULE)
    assert np.isfinite(model.weight.numpy()).all() and (model.weight.numpy() < before).all()
    assert unused.numpy() == 5.0
