"""The training loop on a line fitted to points: stopping, resuming, failing."""

import io
import json
import re
import time

import numpy as np
import pytest
from rich.console import Console

from features.backend import tf
from interactions.errors import UserError
from training import loop
from training.average import weight_average
from training.config import ScheduleConfig
from training.dropout import dropout, hide_ids
from training.loop import Plan, TrainingError, restore, train
from training.optimizer import adam, apply_gradients, trained_weights

STEPS = 5
SCHEDULE = ScheduleConfig(learning_rate=0.05, max_epochs=4, patience=2)
RICH = SCHEDULE.model_copy(
    update={"warmup_steps": 3, "decay": "cosine", "weight_decay": 0.01, "average": 0.9}
)


class Line(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(tf.ones([3]) * 0.1, name="weight")
        self.table = tf.Variable(tf.ones([4, 3]) * 0.2, name="table")

    def __call__(self, x, ids, seed):
        weight = self.weight + tf.gather(self.table, ids)
        return tf.reduce_sum(dropout(x, 0.5, seed, salt=1) * weight, axis=1)


class Run:
    """A model, its optimiser and a plan whose training can be made to fail or stop."""

    def __init__(self, *, config=SCHEDULE, stop_at=None, nan_at=None, scores=None, sizes=None):
        self.config = config
        self.model = Line()
        weights = self.model.trainable_variables
        self.optimizer = adam(weights, config=config, steps=config.max_epochs * STEPS)
        self.average = weight_average(weights, config=config)
        self.losses, self.seeds, self.validated = [], [], []
        self._stop_at, self._nan_at, self._sizes = stop_at, nan_at, sizes
        self._scores = None if scores is None else iter(scores)

    def step(self, batch, seed):
        number = int(seed[1])
        if number == self._stop_at:
            raise KeyboardInterrupt
        with tf.GradientTape() as tape:
            found = self.model(tf.constant(batch["x"]), batch["ids"], seed)
            loss = tf.reduce_mean(tf.square(found - batch["y"]))
            scaled = loss * float("nan") if number == self._nan_at else loss
        apply_gradients(
            self.optimizer, tape, scaled, self.model.trainable_variables, config=self.config
        )
        self.losses.append(float(loss))
        self.seeds.append(tuple(seed.numpy().tolist()))
        return {"loss": loss}

    def plan(self, *, validated=True, steps_per_epoch=STEPS):
        return Plan(
            name="line",
            weights={"model": trained_weights(self.model)},
            batches=lambda epoch: batches(epoch, self._sizes or [steps_per_epoch]),
            steps_per_epoch=steps_per_epoch,
            step=self.step,
            validate=self._validate if validated else None,
            optimizer=self.optimizer,
            average=self.average,
        )

    def _validate(self):
        self.validated.append(len(self.losses))
        if self._scores is not None:
            return next(self._scores)
        return -float(tf.reduce_sum(tf.square(self.model.weight - [1.0, 2.0, 3.0])))

    def train(self, folder, *, validated=True, steps_per_epoch=STEPS, **given):
        plan = self.plan(validated=validated, steps_per_epoch=steps_per_epoch)
        return train(plan, **{"config": self.config, "folder": folder, "seed": 7} | given)

    @property
    def weights(self):
        return [v.numpy().tolist() for v in self.model.trainable_variables]


def batches(epoch, sizes):
    """The sizes of the epochs are those given, over and over."""
    rng = np.random.default_rng([3, epoch])
    for _ in range(sizes[epoch % len(sizes)]):
        x = rng.normal(size=(8, 3)).astype(np.float32)
        yield {
            "x": x,
            "ids": rng.integers(0, 4, 8).astype(np.int32),
            "y": x @ np.array([1.0, 2.0, 3.0], np.float32),
        }


@pytest.mark.parametrize("config", [SCHEDULE, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("stop_at", [2, 5, 12, 19])
def test_a_stopped_run_resumes_as_if_it_had_not_been_stopped(tmp_path, stop_at, config):
    whole, first, second = (
        Run(config=config),
        Run(config=config, stop_at=stop_at),
        Run(config=config),
    )
    wanted = whole.train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        first.train(tmp_path / "stopped")
    found = second.train(tmp_path / "stopped")
    done = stop_at // STEPS * STEPS
    assert first.losses[:done] + second.losses == whole.losses
    assert second.weights == whole.weights
    assert found.history == wanted.history
    assert (found.step, found.best, found.best_step) == (wanted.step, wanted.best, wanted.best_step)


def test_stopped_within_an_epoch_it_resumes_from_the_round_it_had_finished(tmp_path):
    config = RICH.model_copy(update={"validation_steps": 4})
    whole, first, second = Run(config=config), Run(config=config, stop_at=18), Run(config=config)
    wanted = whole.train(tmp_path / "whole", steps_per_epoch=11)
    with pytest.raises(KeyboardInterrupt):
        first.train(tmp_path / "stopped", steps_per_epoch=11)
    found = second.train(tmp_path / "stopped", steps_per_epoch=11)
    # rounds of an epoch of 11 end after 4, 8 and 11 steps
    assert first.losses[:15] + second.losses == whole.losses
    assert second.weights == whole.weights and found.history == wanted.history


def test_a_long_epoch_is_validated_in_rounds_of_about_the_same_length(tmp_path):
    config = SCHEDULE.model_copy(update={"validation_steps": 4, "patience": 100, "max_epochs": 2})
    run = Run(config=config)
    ended = run.train(tmp_path, steps_per_epoch=11)
    assert run.validated == [4, 8, 11, 15, 19, 22]
    assert ended.epoch == 2 and ended.step == 22 and len(ended.history) == 6


def test_an_epoch_with_fewer_batches_than_planned_still_ends(tmp_path):
    run = Run(config=SCHEDULE.model_copy(update={"patience": 100}), sizes=[5, 3, 4, 1])
    ended = run.train(tmp_path)
    assert run.validated == [5, 8, 12, 13] and ended.epoch == 4


def test_an_epoch_with_more_batches_than_planned_has_no_round_of_its_own_for_them(tmp_path):
    run = Run(sizes=[STEPS, STEPS + 2, STEPS], scores=[1.0, 2.0, 3.0, 4.0])
    state = run.train(tmp_path)
    assert [row["step"] for row in state.history[:3]] == [STEPS, 2 * STEPS + 2, 3 * STEPS + 2]


def test_an_epoch_without_a_batch_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="nothing to learn from"):
        Run(sizes=[5, 0]).train(tmp_path)


def test_when_time_is_out_it_validates_once_more_and_keeps_the_best(tmp_path):
    run = Run()
    ended = run.train(tmp_path, steps_per_epoch=1000, max_minutes=1e-9)
    assert ended.done and ended.step == 1 and run.validated == [1]
    assert ended.out_of_time
    again = Run()
    assert again.train(tmp_path, steps_per_epoch=1000, max_minutes=1e-9).step == 1
    assert not again.losses and again.weights == run.weights


def test_time_is_counted_across_resumptions(tmp_path):
    def slow(run, seconds):
        made = run.step

        def step(batch, seed):
            time.sleep(seconds)
            return made(batch, seed)

        run.step = step
        return run

    config = SCHEDULE.model_copy(update={"patience": 1000, "max_epochs": 1000})
    stopped = slow(Run(config=config, stop_at=2 * STEPS), 0.1)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(tmp_path, max_minutes=1000.0)
    spent = json.loads((tmp_path / "progression.json").read_text())["seconds"]
    assert spent >= 2 * STEPS * 0.1
    resumed = slow(Run(config=config), 0.1)
    resumed.train(tmp_path, max_minutes=(spent + 0.25) / 60)
    # what was left was time for three steps at the most
    assert 1 <= len(resumed.losses) <= 3


def test_with_more_time_a_run_that_had_run_out_of_it_goes_on(tmp_path):
    Run().train(tmp_path, max_minutes=1e-9)
    ended = Run().train(tmp_path, max_minutes=1000.0)
    assert ended.epoch == SCHEDULE.max_epochs
    assert not ended.out_of_time


def test_a_number_of_steps_is_kept_to_however_long_it_takes(tmp_path):
    assert Run().train(tmp_path, validated=False, steps=7, max_minutes=1e-9).step == 7


def test_a_changed_config_is_refused_and_an_unstarted_run_may_change(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Run(stop_at=1).train(tmp_path, fingerprint={"line.rate": 0.1})
    with pytest.raises(KeyboardInterrupt):
        Run(stop_at=STEPS).train(tmp_path, fingerprint={"line.rate": 0.2})
    with pytest.raises(UserError, match=r"line\.rate was 0\.2 and is now 0\.3"):
        Run().train(tmp_path, fingerprint={"line.rate": 0.3})
    run = Run()
    run.train(tmp_path, fingerprint={"line.rate": 0.2})
    assert run.losses


def test_averaged_weights_are_validated_and_kept_while_training_goes_on_raw(tmp_path):
    averaged = SCHEDULE.model_copy(update={"average": 0.9})
    raw, run, found = Run(), Run(config=averaged), Line()
    ended = raw.train(tmp_path / "raw")
    smooth = run.train(tmp_path / "averaged")
    # the same course, judged by other weights
    assert run.losses == raw.losses
    assert smooth.history[-1]["validation"] != ended.history[-1]["validation"]
    kept = -float(tf.reduce_sum(tf.square(run.model.weight - [1.0, 2.0, 3.0])))
    assert kept == smooth.best
    restore(tmp_path / "averaged", model=trained_weights(found))
    assert [v.numpy().tolist() for v in found.trainable_variables] == run.weights


def test_without_validation_the_average_of_the_last_steps_is_kept(tmp_path):
    averaged = SCHEDULE.model_copy(update={"average": 0.9})
    run, found = Run(config=averaged), Line()
    trail = []
    made = run.step

    def step(batch, seed):
        losses = made(batch, seed)
        trail.append(run.model.weight.numpy())
        return losses

    run.step = step
    run.train(tmp_path, steps=7, validated=False)
    wanted = Line().weight.numpy()
    for number, weight in enumerate(trail, 1):
        momentum = min(0.9, (1 + number) / (10 + number))
        wanted = momentum * wanted + (1 - momentum) * weight
    np.testing.assert_allclose(run.model.weight.numpy(), wanted, rtol=1e-5)
    restore(tmp_path, model=trained_weights(found))
    assert (found.weight.numpy() == run.model.weight.numpy()).all()


def test_tensorboard_has_the_losses_the_rate_the_norm_and_the_speed(tmp_path):
    Run().train(tmp_path, steps_per_epoch=40, steps=60, validated=False)
    seen = {}
    for path in (tmp_path / "tensorboard").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                seen.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    assert seen["line/learning_rate"] == pytest.approx([0.05] * 3)
    for tag in ("line/loss", "line/gradient_norm", "line/steps_per_second"):
        assert len(seen[tag]) == 3 and all(0 < value < 1e9 for value in seen[tag])


def test_the_console_tells_the_epoch_the_loss_the_speed_and_the_time_left(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    config = SCHEDULE.model_copy(update={"max_epochs": 1, "validation_steps": 20})
    Run(config=config).train(tmp_path, steps_per_epoch=40, max_minutes=10.0, console=console)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    assert re.search(r"line, epoch 1: loss [0-9.]+, [0-9.]+ steps/s .*at most [0-9:]+ left", shown)
    assert re.search(r"line epoch 0\.5 \([0-9]+ s\): loss [0-9.]+, validation -[0-9.]+", shown)
    assert "line epoch 1 (" in shown


def test_stopped_between_the_checkpoint_and_its_record_it_still_resumes_alike(
    tmp_path, monkeypatch
):
    whole, first, second = Run(), Run(), Run()
    whole.train(tmp_path / "whole")

    def stop(path, content):
        if content["epoch"] == 3:
            raise KeyboardInterrupt
        written(path, content)

    written = loop.write_json
    monkeypatch.setattr(loop, "write_json", stop)
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
        assert [v.numpy().tolist() for v in found.trainable_variables] == run.weights


@pytest.mark.parametrize("poisoned", ["loss", "gradient_norm"])
def test_what_is_no_number_ends_training_at_its_step_and_keeps_the_last_epoch(tmp_path, poisoned):
    config = SCHEDULE.model_copy(update={"average": 0.9})
    good = Run(config=config)
    good.train(tmp_path / "good", steps=STEPS, validated=False)
    # a gradient that is none spoils the weights, although the loss was still a number
    run = Run(config=config, nan_at=STEPS + 1 if poisoned == "gradient_norm" else None)
    if poisoned == "loss":
        made = run.step
        run.step = lambda batch, seed: {
            "loss": made(batch, seed)["loss"] * (np.nan if int(seed[1]) == STEPS + 1 else 1.0)
        }
    with pytest.raises(TrainingError) as error:
        run.train(tmp_path / "bad")
    message = str(error.value)
    assert poisoned in message and str(tmp_path / "bad" / "latest") in message
    assert f"step {STEPS + 2}" in message and len(run.losses) == STEPS + 2
    kept = [latest_weights(tmp_path / folder, config) for folder in ("good", "bad")]
    assert kept[0] == kept[1]
    assert all(np.isfinite(weight).all() for weights in kept[0] for weight in weights)


def latest_weights(folder, config):
    """The raw weights and the averages of the latest checkpoint."""
    kept = Run(config=config)
    tf.train.Checkpoint(model=trained_weights(kept.model), average=kept.average.state).restore(
        tf.train.latest_checkpoint(str(folder / "latest"))
    ).expect_partial()
    raw = kept.weights
    with kept.average.in_place(0):
        return raw, kept.weights


def test_where_nothing_was_kept_yet_the_error_says_so(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        Run(nan_at=1).train(tmp_path)


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
    for file in sorted([*(tmp_path / "latest").iterdir(), *(tmp_path / "best").iterdir()]):
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
