"""What a training step of `PKKD` changes, and by how much."""

import keras
import numpy as np
import numpy_distillation as formulas
import pytest
from tiny_networks import CLASSES, batch, changed, compiled, fit, network, pkkd, values

from pkkd_tf import PKKD
from pkkd_tf.distillation import FeatureMatching
from pkkd_tf.distillation.recomputation import LOGITS
from pkkd_tf.optimizers import AdderSGD
from tests.networks import mostly_slow

ALWAYS = {"loss", "accuracy", "ce_loss", "filter_rms"}
KD = ALWAYS | {"kd_loss", "teacher_loss", "teacher_accuracy"}
FEATURES = {"feature_loss", "beta", "feature_share", "effective_rank", "exponent", "similarity"}
LOGS = {"plain": ALWAYS, "kd": KD, "pkkd": KD | FEATURES}
NOT_IN_EVALUATION = FEATURES | {"filter_rms"}


def pair_weights(model):
    return [v for pair in model.pairs for v in pair.weights]


@pytest.mark.parametrize("method", mostly_slow(LOGS, "pkkd"))
def test_logs_of_training_and_evaluation(method):
    model = compiled(method=method, monitor_every=1)
    logs = fit(model, 2).history
    assert set(logs) == LOGS[method]
    assert all(np.isfinite(v).all() for v in logs.values())
    found = model.evaluate(*batch(), verbose=0, return_dict=True)
    assert set(found) == LOGS[method] - NOT_IN_EVALUATION


@pytest.mark.parametrize("method", list(LOGS))
def test_everything_that_is_to_learn_moves(method):
    model = compiled(method=method, monitor_every=1)
    networks = [n for n in (model.student, model.teacher) if n is not None]
    before = values([v for n in networks for v in n.weights] + pair_weights(model))
    fit(model, 2)
    after = values([v for n in networks for v in n.weights] + pair_weights(model))
    still = set(before) - changed(before, after)
    assert {name.split(" ")[0] for name in still} <= {"teacher_kernel/log_width"}
    assert len(still) == len(model.pairs)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "pkkd"])
def test_a_fixed_teacher_stays_with_its_statistics(method):
    model = compiled(method=method, teacher_mode="fixed")
    teacher, student = values(model.teacher.weights), values(model.student.weights)
    logs = fit(model, 2).history
    assert not changed(teacher, values(model.teacher.weights))
    assert len(changed(student, values(model.student.weights))) == len(student)
    assert model.teacher_optimizer is None and model.teacher_variables == []
    images, labels = batch(32)
    logits = model.teacher.predict(images[:16], verbose=0).astype("float64")
    expected = formulas.cross_entropy(np.eye(CLASSES)[labels[:16]], logits)
    first = compiled(method=method, teacher_mode="fixed", teacher=model.teacher)
    np.testing.assert_allclose(
        first.train_step((images[:16], labels[:16]))["teacher_loss"], expected, rtol=1e-5
    )
    assert logs["teacher_loss"][0] > 0


def test_whose_variables_are_whose():
    model = compiled(monitor_every=1)
    mine, theirs = map(set, (map(id, model.student_variables), map(id, model.teacher_variables)))
    assert not mine & theirs
    assert {id(v) for v in model.student.trainable_variables} < mine
    assert {id(v) for v in model.teacher.trainable_variables} == theirs
    assert len(mine | theirs) == len(model.trainable_variables)
    assert len(model.optimizer._momentums) == len(model.student_variables)
    assert len(model.teacher_optimizer._momentums) == len(model.teacher_variables)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["fixed", "trained"])
def test_the_teacher_goes_its_own_way_whatever_the_student_does(side):
    """Bit for bit as if it were trained alone."""
    keras.utils.set_random_seed(0)
    alone = PKKD(network("convolution"), method="plain")
    alone.compile(AdderSGD(0.05, weight_decay=5e-4), run_eagerly=True)
    matching = FeatureMatching(teacher_side=side)
    taught = compiled(beta=1.0, alpha=3.0, monitor_every=1, matching=matching)
    for model in (alone, taught):
        fit(model, 3)
    for a, b in zip(alone.student.get_weights(), taught.teacher.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_with_teacher_gradient_the_feature_loss_reaches_the_teacher():
    weights = []
    for allowed in (False, True):
        matching = FeatureMatching(teacher_gradient=allowed)
        model = compiled(beta=1.0, matching=matching)
        fit(model, 1)
        weights.append(values(model.teacher.trainable_variables))
    moved = {name.split("/")[0] for name in changed(*weights)}
    assert {"conv1", "conv2", "stem"} <= moved
    assert "head" not in moved  # behind the last matched layer


def test_with_teacher_gradient_the_teachers_loss_holds_the_weighted_feature_loss():
    model = compiled(beta=0.25, matching=FeatureMatching(teacher_gradient=True))
    images, labels = batch()
    logits = model.teacher(images, training=True).numpy().astype("float64")
    logs = model.train_step((images, labels))
    expected = formulas.cross_entropy(np.eye(CLASSES)[labels], logits) + 0.25 * logs["feature_loss"]
    np.testing.assert_allclose(logs["teacher_loss"], expected, rtol=1e-5)
    assert logs["feature_loss"] > 0.1


def test_without_weight_the_teacher_changes_nothing_for_the_student():
    plain, kd = compiled(method="plain"), compiled(method="kd", alpha=0.0)
    for model in (plain, kd):
        fit(model, 3)
    for a, b in zip(plain.student.get_weights(), kd.student.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_without_weight_the_features_change_nothing_for_the_student():
    kd, pkkd_ = compiled(method="kd"), compiled(method="pkkd", beta=0.0, monitor_every=1)
    for model in (kd, pkkd_):
        fit(model, 2)
    for a, b in zip(kd.student.get_weights(), pkkd_.student.get_weights()):
        np.testing.assert_array_equal(a, b)


def squared_differences(model, images):
    """Of the features of every matched pair."""
    outputs, theirs = (network(images, training=True) for network in model._extractors())
    pairs = zip(model.matched_layers, model.pairs)
    features = [pair(outputs[name], theirs[name]) for name, pair in pairs]
    return [np.mean((np.float64(a) - c) ** 2) for a, c in features]


@pytest.mark.parametrize("monitor_every", [0, 1])
def test_the_loss_is_the_sum_of_its_weighted_parts(monitor_every):
    regularizer = keras.regularizers.L2(1e-3)
    student = network("adder", kernel_regularizer=regularizer, activity_regularizer="l1")
    teacher = network("convolution", kernel_regularizer=regularizer)
    options = {"alpha": 0.5, "temperature": 3.0, "beta": 0.3, "monitor_every": monitor_every}
    model = compiled(student=student, teacher=teacher, **options)
    images, labels = batch()
    logits = student(images, training=True).numpy(), teacher(images, training=True).numpy()
    ours, theirs = (z.astype("float64") for z in logits)
    penalties = [float(sum(m.losses)) for m in (student, teacher)]
    squares = squared_differences(model, images)
    target = np.eye(CLASSES)[labels]
    expected = {
        "ce_loss": formulas.cross_entropy(target, ours),
        "kd_loss": formulas.distillation(ours, theirs, 3.0),
        "feature_loss": np.sum(squares),
        "teacher_loss": formulas.cross_entropy(target, theirs) + penalties[1],
    }
    total = expected["ce_loss"] + 0.5 * expected["kd_loss"] + 0.3 * expected["feature_loss"]
    expected["loss"] = total + penalties[0]
    logs = model.train_step((images, labels))
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=name)
    assert min(penalties) > 0 and len(squares) == 2


def test_evaluation_counts_the_regularizers_but_no_features():
    student = network("adder", kernel_regularizer="l2")
    model = compiled(student=student, alpha=0.5)
    found = model.evaluate(*batch(), verbose=0, return_dict=True)
    penalty = float(sum(student.losses))
    expected = found["ce_loss"] + 0.5 * found["kd_loss"] + penalty
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    assert penalty > 0.1


def test_feature_loss_is_logged_before_its_weight_while_that_follows_the_share():
    model = compiled(monitor_every=1)
    images, labels = batch()
    squares = np.sum(squared_differences(model, images))
    logs = model.train_step((images, labels))
    assert float(logs["beta"]) != model.monitor.START
    np.testing.assert_allclose(logs["feature_loss"], squares, rtol=1e-5)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.0, 1.0), (1.0, 1.0), (0.5, 4.0)])
def test_the_step_of_the_classifier_is_the_formula(alpha, temperature):
    model = compiled(
        method="kd",
        alpha=alpha,
        temperature=temperature,
        optimizer=keras.optimizers.SGD(0.5),
    )
    images, labels = batch()
    ours, theirs = (
        network(images, training=True)[LOGITS].numpy().astype("float64")
        for network in model._extractors()
    )
    bias = model.student.get_layer("head").bias
    before = bias.numpy()
    model.train_step((images, labels))
    slope = formulas.softmax(ours) - np.eye(CLASSES)[labels]
    difference = formulas.softmax(ours / temperature) - formulas.softmax(theirs / temperature)
    slope += alpha * temperature * difference
    np.testing.assert_allclose(before - bias.numpy(), 0.5 * slope.mean(0), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_one_hot_labels_train_as_class_numbers_do():
    numbers, one_hot = compiled(method="kd"), compiled(method="kd")
    images, labels = batch(32)
    encoded = np.eye(CLASSES, dtype="float32")[labels]
    options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    logs = numbers.fit(images, labels, **options).history
    twin = one_hot.fit(images, encoded, **options).history
    for name in logs:
        np.testing.assert_allclose(logs[name], twin[name], rtol=1e-5, err_msg=name)
    for a, b in zip(numbers.get_weights(), one_hot.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_accuracies_are_those_of_the_networks():
    model = compiled(method="kd")
    fit(model, 2)
    images, labels = batch(64, seed=5)
    found = model.evaluate(images, labels, batch_size=24, verbose=0, return_dict=True)
    for name, of in (("accuracy", model.student), ("teacher_accuracy", model.teacher)):
        hits = of.predict(images, verbose=0).argmax(1) == labels
        np.testing.assert_allclose(found[name], hits.mean(), rtol=1e-5)
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), model.student.predict(images, verbose=0)
    )


def test_the_teachers_optimizer_is_a_copy_unless_one_is_given():
    model = pkkd(method="kd")
    model.compile(AdderSGD(0.05, momentum=0.8, weight_decay=5e-4, eta=0.3))
    copy = model.teacher_optimizer
    assert copy is not model.optimizer and copy.get_config() == model.optimizer.get_config()
    given = keras.optimizers.Adam(0.01)
    model = pkkd(method="kd")
    model.compile("sgd", given)
    assert model.teacher_optimizer is given


@pytest.mark.slow
class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that Keras cannot write to a file."""

    def __call__(self, step):
        return 0.1 * 0.5 ** keras.ops.cast(step, "float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("rate", [Halving(), lambda: 0.1])
def test_schedules_of_any_kind_are_the_teachers_too(rate, policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(method="kd", optimizer=AdderSGD(rate, momentum=0.5))
    inner = getattr(model.teacher_optimizer, "inner_optimizer", model.teacher_optimizer)
    assert inner._learning_rate is rate and inner.momentum == 0.5
    assert type(model.teacher_optimizer) is type(model.optimizer)
    fit(model, 2)
    expected = 0.1 * 0.5**2 if isinstance(rate, Halving) else 0.1
    assert float(inner.learning_rate) == pytest.approx(expected)


def test_the_teacher_decays_no_more_than_the_student():
    optimizer = AdderSGD(0.0001, weight_decay=100.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "bias"])
    model = compiled(method="kd", optimizer=optimizer)
    before = values(model.teacher.trainable_variables)
    fit(model, 1)
    after = values(model.teacher.trainable_variables)
    shrunk = {n for n in before if np.abs(after[n]).sum() < 0.995 * np.abs(before[n]).sum()}
    assert {n.split()[0] for n in shrunk} >= {"stem/kernel", "conv1/kernel", "head/kernel"}
    assert not [n for n in shrunk if "gamma" in n]


def test_no_warning_is_raised(recwarn):
    for matching in (FeatureMatching(), FeatureMatching(kernel="identity")):
        model = compiled(monitor_every=1, matching=matching)
        fit(model, 1)
    ours = [w for w in recwarn if "__array__ implementation" not in str(w.message)]
    assert not [str(w.message) for w in ours]
