"""AdamW that touches only the rows of a table that a step used."""

import time

import numpy as np
import pytest

from features.backend import tf
from training.config import ScheduleConfig
from training.optimizer import adam, apply_gradients

CONFIG = ScheduleConfig(learning_rate=0.05, weight_decay=0.1, clip_norm=1e9)


def variables(seed=1):
    rng = np.random.default_rng(seed)
    return [
        tf.Variable(tf.constant(rng.normal(size=shape), tf.float32), name=name)
        for name, shape in (("kernel", (6, 4)), ("table", (10, 4)), ("scale", (4,)))
    ]


def one_step(given, ids, optimizer, *, config=CONFIG, weight=1.0):
    kernel, table, scale = given
    with tf.GradientTape() as tape:
        looked_up = tf.gather(table, ids)
        loss = tf.reduce_sum(tf.square(looked_up)) + tf.reduce_sum(tf.sin(kernel * scale))
        loss = loss * weight
    apply_gradients(optimizer, tape, loss, given, config=config)


def test_dense_gradients_are_applied_as_keras_applies_them():
    mine, theirs = variables(), variables()
    keras = tf.keras.optimizers.AdamW(0.05, weight_decay=0.1, jit_compile=False)
    keras.exclude_from_weight_decay(var_names=["scale"])
    optimizer = adam(mine, config=CONFIG)
    rng = np.random.default_rng(3)
    for _ in range(5):
        targets = [tf.constant(rng.normal(size=v.shape), tf.float32) for v in mine]
        for given, update in ((mine, None), (theirs, keras)):
            with tf.GradientTape() as tape:
                loss = tf.add_n([tf.reduce_sum(v * t) for v, t in zip(given, targets, strict=True)])
            if update is None:
                apply_gradients(optimizer, tape, loss, given, config=CONFIG)
            else:
                gradients = tape.gradient(loss, given)
                update.apply_gradients(zip(gradients, given, strict=True))
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6, atol=1e-7)


def test_a_variable_that_stands_twice_is_refused():
    table, *others = variables()
    with pytest.raises(ValueError, match="stands twice"):
        adam([table, *others, table], config=CONFIG)


def test_a_row_used_at_every_step_moves_as_if_its_table_were_dense():
    sparse, dense = variables()[1], variables()[1]
    mine, theirs = adam([sparse], config=CONFIG), adam([dense], config=CONFIG)
    for _ in range(4):
        for table, optimizer, rows in ((sparse, mine, None), (dense, theirs, tf.identity)):
            with tf.GradientTape() as tape:
                # a row twice, and all the others once
                ids = tf.constant([*range(10), 3])
                given = table if rows is None else rows(table)
                loss = tf.reduce_sum(tf.sin(tf.gather(given, ids)))
            apply_gradients(optimizer, tape, loss, [table], config=CONFIG)
    np.testing.assert_allclose(sparse.numpy(), dense.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_that_no_step_used_stay_as_they_were_bit_by_bit(compiled):
    given = variables()
    before = given[1].numpy()
    optimizer = adam(given, config=CONFIG)
    step = tf.function(one_step) if compiled else one_step
    for ids in ([1, 4, 4], [4, 7, 1]):
        step(given, tf.constant(ids), optimizer)
    after = given[1].numpy()
    untouched = [0, 2, 3, 5, 6, 8, 9]
    assert (after[untouched] == before[untouched]).all()
    assert (after[[1, 4, 7]] != before[[1, 4, 7]]).all()
    # nor do their moments move, so that they wait for their next step as they were
    for slot in optimizer.variables:
        if slot.shape == given[1].shape:
            assert not slot.numpy()[untouched].any() and slot.numpy()[[1, 4, 7]].all()


def test_a_row_not_used_now_keeps_its_momentum_for_later():
    given = variables()
    optimizer = adam(given, config=CONFIG)
    one_step(given, tf.constant([1]), optimizer)
    before = given[1].numpy()
    one_step(given, tf.constant([2]), optimizer)
    assert (given[1].numpy()[1] == before[1]).all()


def test_the_norm_counts_a_row_once_with_the_sum_of_its_gradients():
    table = tf.Variable(tf.ones([3, 2]), name="table")
    optimizer = adam([table], config=CONFIG)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table, [1, 1, 1, 2]))
    apply_gradients(optimizer, tape, loss, [table], config=CONFIG)
    # row 1 has (3, 3), row 2 has (1, 1)
    assert float(optimizer.gradient_norm) == pytest.approx(np.sqrt(20.0))


def test_gradients_are_clipped_by_their_common_norm():
    """Adam forgets a gradient's size at its first step, not at a later one of another size."""
    config = ScheduleConfig(learning_rate=0.05, clip_norm=1e-3)
    moved = []
    for weight in (1.0, 1e6):
        given = variables()
        optimizer = adam(given, config=config)
        for one in (1.0, weight):
            one_step(given, tf.constant([1, 1, 2]), optimizer, config=config, weight=one)
        assert float(optimizer.gradient_norm) > config.clip_norm
        moved.append([v.numpy() for v in given])
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_variables_that_a_loss_does_not_use_stay():
    used, unused = tf.Variable([1.0, 2.0]), tf.Variable(5.0)
    optimizer = adam([used, unused], config=CONFIG)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(used) * 1e9
    apply_gradients(optimizer, tape, loss, [used, unused], config=CONFIG)
    assert np.isfinite(used.numpy()).all() and (used.numpy() < [1.0, 2.0]).all()
    assert unused.numpy() == 5.0


def test_matrices_and_used_rows_decay_and_biases_and_scales_do_not():
    names = {"kernel": (2, 2), "attention_bias": (2, 2), "gamma": (2,), "table": (3, 2)}
    given = [tf.Variable(tf.ones(shape), name=name) for name, shape in names.items()]
    optimizer = adam(given, config=ScheduleConfig(learning_rate=0.5, weight_decay=0.2))
    with tf.GradientTape() as tape:
        # gradients of zero, so that nothing but decay moves a weight
        loss = 0.0 * (
            tf.add_n([tf.reduce_sum(v) for v in given[:3]])
            + tf.reduce_sum(tf.gather(given[3], [1]))
        )
    apply_gradients(optimizer, tape, loss, given, config=CONFIG)
    kernel, bias, gamma, table = (v.numpy() for v in given)
    np.testing.assert_allclose(kernel, 0.9, rtol=1e-6)
    assert (bias == 1).all() and (gamma == 1).all()
    np.testing.assert_allclose(table[1], 0.9, rtol=1e-6)
    assert (table[[0, 2]] == 1).all()


def test_restored_it_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    config = ScheduleConfig(learning_rate=0.05, warmup_steps=3, decay="cosine")
    whole, stopped = variables(), variables()
    one, first = (adam(given, config=config, steps=8) for given in (whole, stopped))
    for _ in range(6):
        one_step(whole, tf.constant([1, 2]), one, config=config)
    for _ in range(3):
        one_step(stopped, tf.constant([1, 2]), first, config=config)
    path = tf.train.Checkpoint(o=first, **dict(enumerate_names(stopped))).save(str(tmp_path / "c"))
    again = variables(seed=2)
    second = adam(again, config=config, steps=8)
    tf.train.Checkpoint(o=second, **dict(enumerate_names(again))).restore(path).assert_consumed()
    for _ in range(3):
        one_step(again, tf.constant([1, 2]), second, config=config)
    for a, b in zip(whole, again, strict=True):
        assert (a.numpy() == b.numpy()).all()


def enumerate_names(given):
    return ((f"v{index}", variable) for index, variable in enumerate(given))


def small_network(seed):
    """Train one with lookups, dropout's like, and sums over many rows; return its weights."""
    rng = np.random.default_rng(seed)
    table = tf.Variable(tf.constant(rng.normal(size=(500, 32)), tf.float32), name="table")
    kernel = tf.Variable(tf.constant(rng.normal(size=(32, 64)), tf.float32), name="kernel")
    optimizer = adam([table, kernel], config=CONFIG)

    @tf.function
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softplus(tf.matmul(tf.gather(table, ids), kernel)))
        apply_gradients(optimizer, tape, loss, [table, kernel], config=CONFIG)

    for _ in range(10):
        step(tf.constant(rng.integers(0, 500, 5000), tf.int32))
    return [v.numpy() for v in (table, kernel)]


def test_the_same_seed_gives_the_same_weights_bit_by_bit():
    one, again, other = small_network(1), small_network(1), small_network(2)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert not all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_a_step_costs_about_the_same_for_a_large_table_as_for_a_small_one():
    rng = np.random.default_rng(0)
    steps = {}
    for rows in (10_000, 1_000_000):
        table = tf.Variable(tf.zeros([rows, 64]) + 0.1, name="table")
        optimizer = adam([table], config=CONFIG)

        @tf.function
        def step(ids, table=table, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(tf.gather(table, ids)))
            apply_gradients(optimizer, tape, loss, [table], config=CONFIG)

        steps[rows] = step
    taken = {rows: [] for rows in steps}
    # in turn, so that another process disturbs both alike
    for _ in range(25):
        for rows, step in steps.items():
            ids = tf.constant(rng.choice(rows, 2000, replace=False), tf.int32)
            started = time.perf_counter()
            step(ids)
            taken[rows].append(time.perf_counter() - started)
    small, large = (np.median(times[5:]) for times in taken.values())
    assert large < 4 * small
