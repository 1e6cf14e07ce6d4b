"""Every way of weighing losses, on small problems whose answer is known."""

import numpy as np
import pytest

from features.backend import tf
from interactions.config import TaskConfig
from ranking.balance import Fixed, GradNorm, PCGrad, Uncertainty, balance_of, projected_factors
from ranking.config import RankingConfig

SEED = tf.constant([0, 0])


def balanced(balance, variables, losses_of):
    """What a balance makes of losses, and the gradient of its total."""
    with tf.GradientTape(persistent=True) as tape:
        losses = losses_of()
        found = balance(losses, tape, SEED)
    return found, tape.gradient(found.total, variables)


def test_fixed_weights_are_what_was_given_and_each_norm_is_its_own():
    x = tf.Variable([1.0, 2.0])
    weights = {"one": 2.0, "other": 0.5}
    found, gradients = balanced(
        Fixed(weights, shared=[x]), [x], lambda: {"one": 3 * x[0], "other": 4 * x[0] + 3 * x[1]}
    )
    assert float(found.total) == pytest.approx(2 * 3 + 0.5 * 10)
    assert {task: float(norm) for task, norm in found.gradient_norms.items()} == (
        pytest.approx({"one": 3.0, "other": 5.0})
    )
    assert gradients[0].numpy() == pytest.approx([2 * 3 + 0.5 * 4, 0.5 * 3])


def test_a_loss_that_the_shared_layer_has_no_part_in_has_no_norm():
    x, own = tf.Variable([1.0]), tf.Variable([1.0])
    found, _ = balanced(Fixed({"one": 1.0}, shared=[x]), [own], lambda: {"one": own[0]})
    assert float(found.gradient_norms["one"]) == 0.0


def test_uncertainty_finds_the_noise_of_each_task():
    """With losses that stay as they are, the best noise s^2 is the loss of a regression, and twice
    the loss of a classification; so a task's term settles, however its loss is scaled."""
    levels = {"rating": 4.0, "click": 0.25}
    balance = Uncertainty(
        dict.fromkeys(levels, 1.0), kinds={"rating": "regression", "click": "binary"}, shared=[]
    )
    optimizer = tf.keras.optimizers.Adam(0.05)
    variables = list(balance.trainable_variables)
    for _ in range(400):
        found, gradients = balanced(
            balance, variables, lambda: {task: tf.constant(v) for task, v in levels.items()}
        )
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
    assert float(found.weights["rating"]) == pytest.approx(0.5 / 4.0, rel=0.02)
    assert float(found.weights["click"]) == pytest.approx(1.0 / (2 * 0.25), rel=0.02)


def test_batches_without_a_label_do_not_make_a_task_look_certain():
    """One batch of ten has labels, of a loss of 1, whose best weight is a half; another task has
    none at all, and stays as it began."""
    tasks = {"rare": "binary", "never": "binary"}
    balance = Uncertainty(dict.fromkeys(tasks, 1.0), kinds=tasks, shared=[])
    optimizer = tf.keras.optimizers.SGD(0.05)
    variables = list(balance.trainable_variables)
    for step in range(1500):
        losses = {"rare": tf.constant(float(step % 10 == 0)), "never": tf.constant(0.0)}
        found, gradients = balanced(balance, variables, lambda losses=losses: losses)
        optimizer.apply_gradients(
            (g, v) for g, v in zip(gradients, variables, strict=True) if g is not None
        )
    assert float(found.weights["rare"]) == pytest.approx(0.5, rel=0.05)
    assert float(found.weights["never"]) == 1.0


def test_a_loss_of_next_to_nothing_leaves_the_noise_finite():
    balance = Uncertainty({"a": 1.0}, kinds={"a": "binary"}, shared=[])
    optimizer = tf.keras.optimizers.SGD(1.0)
    for _ in range(400):
        found, gradients = balanced(
            balance, balance.trainable_variables, lambda: {"a": tf.constant(1e-30)}
        )
        optimizer.apply_gradients(zip(gradients, balance.trainable_variables, strict=True))
    assert 1e4 < float(found.weights["a"]) < 1e5


def test_the_configs_weight_scales_a_task_but_not_its_noise():
    def weight(given):
        balance = Uncertainty({"a": given}, kinds={"a": "binary"}, shared=[])
        optimizer = tf.keras.optimizers.Adam(0.05)
        for _ in range(300):
            found, gradients = balanced(
                balance, balance.trainable_variables, lambda: {"a": tf.constant(3.0)}
            )
            optimizer.apply_gradients(zip(gradients, balance.trainable_variables, strict=True))
        return float(found.weights["a"])

    assert weight(0.5) == pytest.approx(weight(2.0) / 4, rel=0.05)


def test_gradnorm_evens_out_tasks_of_different_scale():
    """The paper's toy: the same problem at scales 1 and 10; the weighted norms become alike."""
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(64, 4)), tf.float32)
    targets = {
        task: tf.constant(rng.normal(size=(64, 1)), tf.float32) for task in ("small", "large")
    }
    scale = {"small": 1.0, "large": 10.0}
    x = tf.Variable(rng.normal(size=(4, 1)), dtype=tf.float32)
    balance = GradNorm(dict.fromkeys(scale, 1.0), shared=[x], alpha=0.0, learning_rate=0.02)

    def losses():
        return {
            task: scale[task] * tf.reduce_mean(tf.square(inputs @ x - targets[task]))
            for task in scale
        }

    for _ in range(300):
        found, _ = balanced(balance, [x], losses)
    norms = {task: float(found.weights[task] * found.gradient_norms[task]) for task in scale}
    assert norms["small"] == pytest.approx(norms["large"], rel=0.1)
    assert float(tf.reduce_sum(balance.weights)) == pytest.approx(2.0, rel=1e-4)


def test_under_gradnorm_the_configs_weights_last():
    x = tf.Variable([1.0])
    given = {"heavy": 1.0, "light": 0.1}
    balance = GradNorm(given, shared=[x], alpha=0.5, learning_rate=0.02)
    for _ in range(300):
        found, _ = balanced(balance, [x], lambda: dict.fromkeys(given, x[0]))
    assert {task: float(weight) for task, weight in found.weights.items()} == pytest.approx(given)


def test_gradnorm_gives_more_to_the_task_that_lags():
    x = tf.Variable([1.0])
    balance = GradNorm({"quick": 1.0, "slow": 1.0}, shared=[x], alpha=1.0, learning_rate=0.02)
    level = {"quick": tf.Variable(1.0), "slow": tf.Variable(1.0)}

    def losses():
        # the same gradient in x, while the levels tell how far each has come
        return {task: level[task] + x[0] - tf.stop_gradient(x[0]) for task in level}

    balanced(balance, [x], losses)
    level["quick"].assign(0.1)
    for _ in range(50):
        found, _ = balanced(balance, [x], losses)
    assert float(found.weights["slow"]) > 1.3 > 0.7 > float(found.weights["quick"])


def test_a_task_without_a_label_in_a_batch_keeps_gradnorm_steady():
    x = tf.Variable([1.0])
    balance = GradNorm({"one": 1.0, "none": 1.0}, shared=[x], alpha=1.0, learning_rate=0.02)
    for _ in range(5):
        found, _ = balanced(balance, [x], lambda: {"one": tf.square(x[0]), "none": tf.zeros([])})
    assert all(np.isfinite(float(weight)) for weight in found.weights.values())
    assert float(found.weights["one"]) == pytest.approx(1.0, abs=1e-3)


def projected(gradients):
    """Algorithm 1 of the paper for two tasks, in which the order does not matter."""
    one, other = np.asarray(gradients, float)
    if one @ other < 0:
        one, other = (
            one - one @ other / (other @ other) * other,
            other - one @ other / (one @ one) * one,
        )
    return one + other


@pytest.mark.parametrize(
    "gradients",
    [[(1.0, 0.0), (-1.0, 1.0)], [(1.0, 0.0), (0.5, 1.0)], [(3.0, 1.0), (-1.0, -0.5)]],
)
def test_pcgrad_takes_away_what_works_against_the_other(gradients):
    x = tf.Variable([0.0, 0.0])
    balance = PCGrad({"one": 1.0, "other": 1.0}, shared=[x], variables=[x])
    _, found = balanced(
        balance,
        [x],
        lambda: {
            name: tf.tensordot(tf.constant(g), x, 1)
            for name, g in zip(("one", "other"), gradients, strict=True)
        },
    )
    assert found[0].numpy() == pytest.approx(projected(gradients), abs=1e-5)


def test_pcgrad_lets_no_task_grow_without_bound():
    """One whose gradient in shared weights is next to nothing has its own beside it."""
    shared, own = tf.Variable([1.0, 1.0]), tf.Variable([1.0])

    def losses():
        return {"one": shared[0], "other": -1e-6 * shared[0] + own[0]}

    balance = PCGrad({"one": 1.0, "other": 1.0}, shared=[shared], variables=[shared, own])
    found, _ = balanced(balance, [shared], losses)
    assert {task: float(w) for task, w in found.weights.items()} == pytest.approx(
        {"one": 1.0, "other": 1.0}, abs=1e-4
    )


def test_pcgrad_leaves_no_task_worse_off_where_two_conflict():
    gradients = np.array([(1.0, 0.2), (-4.0, 0.3)])
    assert (gradients.sum(axis=0) @ gradients[0]) < 0
    found = (
        projected_factors(tf.constant(gradients @ gradients.T, tf.float32), SEED).numpy()
        @ gradients
    )
    assert (gradients @ found >= -1e-5).all()


def test_pcgrad_of_a_tables_rows_counts_only_those_in_both():
    table, x = tf.Variable(np.eye(4, 2, dtype=np.float32)), tf.Variable([1.0])

    def losses():
        rows = tf.gather(table, [0, 1, 1]), tf.gather(table, [1, 2])
        return {
            "one": tf.reduce_sum(rows[0]) + x[0],
            "other": -2 * tf.reduce_sum(rows[1]) + x[0],
        }

    sparse, gradients = balanced(
        PCGrad({"one": 1.0, "other": 1.0}, shared=[x], variables=[table, x]), [table, x], losses
    )
    # over the flat vector of all weights: row 1 is met twice by the first, once by the other
    one = np.array([1, 1, 2, 2, 0, 0, 0, 0, 1.0])
    other = np.array([0, 0, -2, -2, -2, -2, 0, 0, 1.0])
    wanted = projected([one, other])
    dense = tf.convert_to_tensor(gradients[0]).numpy().ravel()
    np.testing.assert_allclose(np.append(dense, gradients[1]), wanted, atol=1e-5)
    assert set(sparse.weights) == {"one", "other"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fixed", Fixed), ("uncertainty", Uncertainty), ("gradnorm", GradNorm), ("pcgrad", PCGrad)],
)
def test_the_config_names_the_balance(name, kind):
    tasks = {"retrieval": TaskConfig(), "buy": TaskConfig(kind="binary", column="buy", weight=0.5)}
    x = tf.Variable([1.0])
    weights = {"retrieval": 1.0, "buy": 0.5}
    balance = balance_of(
        RankingConfig(balance=name), tasks, weights=weights, shared=[x], variables=[x]
    )
    assert isinstance(balance, kind)
    found, _ = balanced(balance, [x], lambda: {"retrieval": x[0], "buy": 2 * x[0]})
    assert float(found.weights["buy"]) == pytest.approx(0.5 * float(found.weights["retrieval"]))


@pytest.mark.parametrize(
    ("name", "own"), [("fixed", 0), ("uncertainty", 2), ("gradnorm", 0), ("pcgrad", 0)]
)
def test_the_models_weights_are_not_the_balances_own(name, own):
    tasks = {"retrieval": TaskConfig(), "buy": TaskConfig(kind="binary", column="buy")}
    x, y = tf.Variable([1.0]), tf.Variable([1.0])
    balance = balance_of(
        RankingConfig(balance=name), tasks, weights=dict.fromkeys(tasks, 1.0),
        shared=[x], variables=[x, y],
    )  # fmt: skip
    mine = balance.trainable_variables
    assert len(mine) == own
    assert not {variable.ref() for variable in mine} & {x.ref(), y.ref()}


@pytest.mark.parametrize("name", ["fixed", "pcgrad"])
def test_who_finds_no_units_takes_the_comparable_ones(name):
    tasks = {"retrieval": TaskConfig(), "buy": TaskConfig(kind="binary", column="buy")}
    x = tf.Variable([1.0])
    balance = balance_of(
        RankingConfig(balance=name),
        tasks,
        weights={"retrieval": 0.2, "buy": 4.0},
        shared=[x],
        variables=[x],
    )
    found, _ = balanced(balance, [x], lambda: {"retrieval": x[0], "buy": 2 * x[0]})
    assert {task: float(w) for task, w in found.weights.items()} == pytest.approx(
        {"retrieval": 0.2, "buy": 4.0}
    )
