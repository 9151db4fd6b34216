"""What `PKKD` refuses, with the rule and the values received."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import CLASSES, batch, compiled, fit, network, pkkd

from pkkd_tf import PKKD
from pkkd_tf.distillation import FeatureMatching, match_layers
from pkkd_tf.layers import AdderConv2D, AdderDepthwiseConv2D
from pkkd_tf.optimizers import AdderSGD

METHODS = "`method` must be one of ('pkkd', 'kd', 'plain')"
TEACHER = '`teacher` must be given for every method but "plain", and not for that one'


@pytest.mark.parametrize(
    ("options", "rule", "received"),
    [
        ({"method": "hint"}, METHODS, "method='hint'"),
        ({"teacher_mode": "frozen"}, "`teacher_mode` must be one of ('progressive', 'fixed')",
         "teacher_mode='frozen'"),
        ({"alpha": -0.1}, "`alpha` must be at least 0", "alpha=-0.1"),
        ({"alpha": float("nan")}, "`alpha` must be at least 0", "alpha=nan"),
        ({"temperature": 0.0}, "`temperature` must be above 0", "temperature=0.0"),
        ({"beta": -1.0}, "`beta` must be None or at least 0", "beta=-1.0"),
        ({"feature_share": 1.0}, "`feature_share` must be in (0, 1)", "feature_share=1.0"),
        ({"feature_share": 0.0}, "`feature_share` must be in (0, 1)", "feature_share=0.0"),
        ({"monitor_every": -1}, "`monitor_every` must be at least 0", "monitor_every=-1"),
        ({"monitor_every": 0}, "`monitor_every` must be above 0 unless `beta` is given",
         "monitor_every=0, beta=None, method='pkkd'"),
        ({"teacher_mode": "fixed", "matching": FeatureMatching(teacher_gradient=True)},
         "`matching.teacher_gradient` must be False for a fixed teacher",
         "teacher_mode='fixed', matching.teacher_gradient=True, method='pkkd'"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(options, rule, received):
    with pytest.raises(ValueError) as error:
        pkkd(teacher=network("convolution"), **options)
    assert str(error.value).startswith(f"{rule}. Received: {received}, teacher='functional")


@pytest.mark.parametrize(("method", "given"), [("pkkd", False), ("kd", False), ("plain", True)])
def test_a_teacher_is_given_exactly_where_it_is_used(method, given):
    teacher = network("convolution") if given else None
    with pytest.raises(ValueError) as error:
        PKKD(network("adder"), teacher, method=method)
    assert str(error.value).startswith(f"{TEACHER}. Received: method={method!r}, teacher=")


def test_arguments_of_keras_models_that_would_do_nothing_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'trainable'"):
        pkkd(method="kd", trainable=False)


def test_no_measurement_needs_no_interval_where_beta_is_given_or_nothing_is_matched():
    assert pkkd(monitor_every=0, beta=0.0).monitor.every == 0
    assert pkkd(method="kd", monitor_every=0).monitor.every == 0


UNUSED_BY_KD = [
    ("beta", 0.1),
    ("feature_share", 0.2),
    ("matched_layers", ["conv1"]),
    ("matching", FeatureMatching(kernel="identity")),
]


def head(x, classes=CLASSES):
    return keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x))


def one_layer(layer, shape=(8, 8, 1), classes=CLASSES):
    inputs = keras.Input(shape)
    return keras.Model(inputs, head(layer(inputs), classes))


def test_shapes_of_student_and_teacher_must_agree():
    student = one_layer(AdderConv2D(4, 3))
    rule = "Student and teacher must have equal input and output shapes. Received: "
    for teacher, shapes in [
        (one_layer(keras.layers.Conv2D(4, 3), (8, 8, 3)), "teacher input=(None, 8, 8, 3)"),
        (one_layer(keras.layers.Conv2D(4, 3), classes=7), "teacher output=(None, 7)"),
    ]:
        with pytest.raises(ValueError) as error:
            PKKD(student, teacher, method="kd")
        text = str(error.value)
        assert text.startswith(rule) and shapes in text
        assert (
            "student input=(None, 8, 8, 1)" in text and f"student output=(None, {CLASSES})" in text
        )


class Subclassed(keras.Model):
    def call(self, x):
        return head(x)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_models_that_are_not_functional_are_refused(role):
    networks = {"student": network("adder"), "teacher": network("convolution")}
    networks[role] = Subclassed(name="own")
    rule = f"The {role} must be a functional Keras model with known inputs and outputs. Received: "
    with pytest.raises(ValueError) as error:
        PKKD(**networks)
    assert str(error.value).startswith(f"{rule}{role}=<Subclassed name=own")


@pytest.mark.parametrize("names", [["conv1", "conv9"], ["stem"], ["head"]])
def test_a_matched_layer_must_be_an_adder_layer_with_a_twin(names):
    with pytest.raises(ValueError) as error:
        pkkd(matched_layers=names)
    assert str(error.value).startswith(
        "A matched layer must be an adder layer of the student and have a layer of the same name "
        f"in the teacher. Received: {names[-1]!r}, student layers=['conv1', 'conv2'], "
        "teacher layers=['input"
    )


def test_a_matched_layer_missing_in_the_teacher_alone_is_refused():
    with pytest.raises(ValueError, match="Received: 'conv2', student layers="):
        pkkd(teacher=network("convolution", names=("conv1", "other")), matched_layers=["conv2"])


@pytest.mark.parametrize("names", [None, []])
def test_at_least_one_layer_must_match(names):
    rule = (
        "At least one adder layer of the student must have a layer of the same name in the "
        'teacher, both outside of other networks; method="kd" compares logits alone. Received: '
        "student layers=['conv1', 'conv2'], inside of others=[], teacher layers="
    )
    with pytest.raises(ValueError) as error:
        pkkd(teacher=network("convolution", names=("a", "b")), matched_layers=names)
    assert str(error.value).startswith(rule)


def test_adder_layers_inside_of_a_backbone_are_named_where_none_is_left():
    student, teacher = (
        keras.Sequential([keras.Input((8, 8, 1)), network(kind)]) for kind in ("adder", "conv")
    )
    with pytest.raises(ValueError, match=r"inside of others=\['functional\w*/conv1', "):
        pkkd(student, teacher)


def test_augmentation_inside_of_the_networks_is_warned_of():
    def augmented(kind):
        image = keras.Input((8, 8, 1))
        return keras.Model(image, network(kind)(keras.layers.RandomFlip(name="flip")(image)))

    with pytest.warns(UserWarning, match=r"belongs in the data.*Received: layers=\['.*/flip', "):
        pkkd(augmented("adder"), augmented("conv"), method="kd")


def test_matched_layers_must_have_equal_shapes():
    with pytest.raises(ValueError) as error:
        pkkd(teacher=network("convolution", width=6))
    assert str(error.value) == (
        "Matched layers must have equal output shapes. Received: layer='conv1', "
        "student=(None, 8, 8, 4), teacher=(None, 8, 8, 6)"
    )


def test_layers_without_a_twin_are_left_out_and_the_order_is_the_students():
    student, teacher = network("adder"), network("convolution", names=("other", "conv2"))
    assert match_layers(student, teacher, None) == ["conv2"]
    teacher = network("convolution")
    assert match_layers(student, teacher, ["conv2", "conv1", "conv2"]) == ["conv1", "conv2"]


@pytest.mark.parametrize(
    ("student", "teacher", "shape", "fan_in"),
    [
        (AdderConv2D(4, 3, name="a"), keras.layers.Conv2D(4, 3, name="a"), (8, 8, 6), 54),
        (AdderConv2D(4, 3, groups=2, name="a"), keras.layers.Conv2D(4, 3, name="a"),
         (8, 8, 6), 27),
        (AdderDepthwiseConv2D(3, depth_multiplier=2, name="a"),
         keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="a"), (8, 8, 6), 9),
    ],
    ids=["full", "grouped", "depthwise"],
)  # fmt: skip
def test_raw_responses_start_at_the_fan_in_of_their_layer(student, teacher, shape, fan_in):
    matching = FeatureMatching(response="raw")
    model = PKKD(one_layer(student, shape), one_layer(teacher, shape), matching=matching)
    (pair,) = model.pairs
    assert pair.student_kernel.width() == fan_in and pair.teacher_kernel.width() == 2


def test_channels_first_layers_are_matched_along_their_channels():
    layers = {"data_format": "channels_first", "name": "a"}
    inputs = [keras.Input((3, 8, 8)) for _ in range(2)]
    pool = keras.layers.GlobalAveragePooling2D(data_format="channels_first")
    student, teacher = (  # two of adders: not every processor has the stock convolution for this
        keras.Model(i, keras.layers.Dense(CLASSES)(pool(AdderConv2D(5, 3, **layers)(i))))
        for i in inputs
    )
    model = PKKD(student, teacher, monitor_every=1)
    model.compile("sgd", run_eagerly=True)
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype("float32")
    logs = model.train_step((images, np.arange(4)))
    assert 0 < logs["feature_loss"] <= 4 and 1 <= logs["effective_rank"] <= 5


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({}, "optimizer=None, options=[]"),
        ({"optimizer": "sgd", "loss": "mse"}, "optimizer='sgd', options=['loss']"),
        ({"optimizer": "sgd", "metrics": ["mae"]}, "optimizer='sgd', options=['metrics']"),
    ],
)
def test_compile_refuses_what_would_have_no_effect(options, received):
    with pytest.raises(ValueError) as error:
        pkkd().compile(**options)
    text = str(error.value)
    assert text.startswith("`compile` needs an optimizer and takes no options but ('run_eagerly'")
    assert text.endswith(f"Received: {received}")


def test_images_without_labels_are_refused_and_nothing_is_trained():
    model = compiled(method="kd")
    before = model.get_weights()
    images, labels = batch()
    with pytest.raises(ValueError, match=r"\(images, labels\). Received: labels=None"):
        model.fit(images, verbose=0)
    with pytest.raises(ValueError, match=r"each image, \(N,\). Received: .*shape=\(16, 5\)"):
        model.fit(images, labels, sample_weight=np.ones((len(labels), CLASSES)), verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_labels_of_another_shape_are_refused_and_nothing_is_trained():
    model = compiled(method="kd")
    before = model.get_weights()
    images, labels = batch()
    rule = r"probabilities \(N, classes\). Received: labels.shape=\(16, 3\), logits.shape=\(16, 5\)"
    with pytest.raises(ValueError, match=rule):
        model.fit(images, np.stack([labels] * 3, 1), verbose=0)
    for name, (a, b) in enumerate(zip(before, model.get_weights())):
        if "moving" not in model.weights[name].path:
            np.testing.assert_array_equal(a, b)


def test_optimizers_that_would_do_nothing_are_refused():
    rule = "`teacher_optimizer` must be another object than `optimizer`, and not be given where"
    for options in ({"method": "plain"}, {"teacher_mode": "fixed"}):
        model = pkkd(**options)
        with pytest.raises(ValueError, match=rule):
            model.compile(AdderSGD(0.1), teacher_optimizer=AdderSGD(0.1))
    shared = AdderSGD(0.1)
    with pytest.raises(ValueError, match=rule):
        pkkd().compile(shared, shared)


def with_the_stem_of(other):
    """A student that computes with a layer of another network."""
    student = network("adder")
    x = h = keras.Input((8, 8, 1))
    for layer in student.layers[1:]:
        h = other.get_layer("stem")(h) if layer.name == "stem" else layer(h)
    return keras.Model(x, h)


@pytest.mark.parametrize("mode", ("progressive", "fixed"))
def test_weights_that_both_networks_train_are_refused(mode):
    teacher = network("convolution")
    model = PKKD(with_the_stem_of(teacher), teacher, teacher_mode=mode)
    rule = r"must not share weights that are trained.*shared=\['stem/bias', 'stem/kernel'\]"
    with pytest.raises(ValueError, match=rule):
        model.compile(AdderSGD(0.1))
    teacher.get_layer("stem").trainable = False
    model.compile(AdderSGD(0.1))
    with pytest.raises(ValueError, match="must not share"):
        PKKD(teacher, teacher, method="kd").compile(AdderSGD(0.1))


def test_averages_of_weights_need_a_student_alone():
    averaging = {"use_ema": True, "ema_momentum": 0.5}
    for options in ({}, {"method": "kd"}, {"teacher_mode": "fixed"}):
        with pytest.raises(ValueError, match="`use_ema` must be off.* Received: use_ema=True"):
            pkkd(**options).compile(AdderSGD(0.1, **averaging))
    model = compiled(method="plain", optimizer=AdderSGD(0.1, **averaging))
    fit(model, 2)
    kernel = model.student.get_layer("conv1").kernel
    index = model.optimizer._get_variable_index(kernel)
    average = model.optimizer._model_variables_moving_average[index]
    np.testing.assert_allclose(kernel.numpy(), average.numpy())


def test_xla_is_not_turned_on_where_there_is_a_gpu(monkeypatch):
    """As Keras does; the compiled operations are not there under XLA."""
    found = tf.config.list_physical_devices
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [*found(kind), gpu])
    model = pkkd()
    model.compile(AdderSGD(0.1))
    model.student.compile(AdderSGD(0.1), "mse")
    assert not model.jit_compile and model.student.jit_compile  # the second: that Keras does so


@pytest.mark.slow
def test_callbacks_monitor_an_accuracy():
    stop = keras.callbacks.EarlyStopping("val_accuracy", mode="max", restore_best_weights=True)
    model = compiled()
    history = fit(model, 2, validation_data=batch(), callbacks=[stop], epochs=2)
    assert len(history.history["val_accuracy"]) >= 1 and stop.best_epoch >= 0


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize(
    "end", [keras.layers.Softmax(), keras.layers.Activation("softmax"), keras.ops.softmax]
)
def test_networks_that_end_in_a_softmax_are_refused(role, end):
    networks = {"student": network("adder"), "teacher": network("convolution")}
    plain = networks[role]
    networks[role] = keras.Model(plain.input, end(plain.output), name="own")
    rule = f"The {role} must end in logits: the losses apply the softmax themselves. Received: "
    with pytest.raises(ValueError, match=f"^{rule}{role}='own', whose last layer 'softmax|activ"):
        PKKD(**networks)
    if role == "student":
        with pytest.raises(ValueError, match=f"^{rule}"):
            PKKD(networks["student"], method="plain")


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        *(("kd", name, value) for name, value in UNUSED_BY_KD),
        *(("plain", name, value) for name, value in UNUSED_BY_KD),
        ("plain", "alpha", 2.0),
        ("plain", "temperature", 4.0),
    ],
)
def test_arguments_that_the_method_makes_no_use_of_are_refused(method, name, value):
    with pytest.raises(ValueError) as error:
        pkkd(method=method, **{name: value})
    assert str(error.value).startswith(
        f"`{name}` must be left out where the method makes no use of it. Received: {name}="
    )
    assert str(error.value).endswith(f", method={method!r}")


@pytest.mark.parametrize(
    "given", ["arrays", *(pytest.param(g, marks=pytest.mark.slow) for g in ("dataset", "steps"))]
)
def test_running_averages_that_lag_behind_are_warned_of(given):
    """Where training is shorter than 15 times what they average over."""
    student = network("adder")
    norms = [a for a in student.layers if isinstance(a, keras.layers.BatchNormalization)]
    norms[0].momentum, norms[1].momentum, norms[2].momentum = 0.99, 0.96, 0.95
    model, (images, labels) = compiled(student, method="plain"), batch(64)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
    data = data.repeat() if given == "steps" else data
    how = {"x": images, "y": labels, "batch_size": 16} if given == "arrays" else {"x": data}
    how |= {"steps_per_epoch": 4} if given == "steps" else {}
    received = "Received: 4 steps, momentum=0.99 of 'stem_norm' and 1 others"
    with pytest.warns(UserWarning, match=received) as found:
        model.fit(**how, verbose=0)
    assert found[0].filename == __file__
    with pytest.warns(UserWarning, match="Received: 3 steps, momentum=0.99"):
        model.fit([images], labels, batch_size=16, validation_split=0.25, verbose=0)
    norms[0].trainable = False  # uses its statistics and changes none
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Batch normalization of an adder network")
        model.fit(**how, epochs=94, initial_epoch=93, verbose=0)  # 376 steps, 375 are enough
        with pytest.raises(UserWarning, match="Received: 372 steps, momentum=0.96"):
            model.fit(**how, epochs=93, initial_epoch=92, verbose=0)


def logits(x, units=CLASSES):
    return keras.layers.Dense(units)(keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize("shape", [(None, 1), (None, 8, 8, 4)])
def test_logits_of_fewer_than_two_classes_are_refused(shape):
    x = keras.Input((8, 8, 4))
    model = keras.Model(x, logits(x, 1) if len(shape) == 2 else x)
    with pytest.raises(ValueError) as error:
        PKKD(model, method="plain")
    assert str(error.value).endswith(f"output shape={shape}")


def test_a_softmax_inside_of_the_last_network_is_refused():
    x = keras.Input((8, 8, 1))
    head = keras.Sequential([keras.layers.Dense(CLASSES), keras.layers.Softmax(name="last")])
    model = keras.Model(x, keras.Sequential([head])(logits(x)))
    with pytest.raises(ValueError, match="whose last layer 'last' is a softmax"):
        PKKD(model, method="plain")


def nested(kind):
    """Two layers inside of a network, one of them of the outer layer's name."""
    conv = AdderConv2D if kind == "adder" else keras.layers.Conv2D
    x = inner = keras.Input((8, 8, 1))
    for name in ("first", "same"):
        x = conv(3, 3, padding="same", name=name)(x)
    trunk = keras.Model(inner, x, name="trunk")
    x = keras.Input((8, 8, 1))
    return keras.Model(x, logits(conv(4, 1, name="same")(trunk(x))))


def test_nested_adder_layers_are_measured_but_not_compared():
    with pytest.warns(UserWarning, match=r"nested=\['trunk/first', 'trunk/same'\], compared=\['s"):
        model = pkkd(nested("adder"), nested("convolution"), monitor_every=1)
    model.compile(AdderSGD(0.1), run_eagerly=True)
    logs = fit(model, 1).history
    found = model.layer_statistics()
    assert sorted(found) == ["same", "trunk/first", "trunk/same"]
    assert all(row["filter_rms"] > 0 for row in found.values())
    ranks = {name: row["effective_rank"] for name, row in found.items()}
    assert ranks["trunk/first"] == ranks["trunk/same"] == 0 < ranks["same"]
    np.testing.assert_allclose(logs["effective_rank"], ranks["same"], rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pkkd(nested("adder"), nested("convolution"), matched_layers=["same"])


@pytest.mark.parametrize("method", ["kd", "pkkd"])
def test_optimizers_for_some_variables_need_a_student_alone(method):
    optimizers = keras.optimizers
    by_path = optimizers.OptimizerMap(optimizers.SGD(0.1), {".*conv1/.*": AdderSGD(0.1)})
    with pytest.raises(ValueError, match="must be one for all variables.* Received: optimizer="):
        pkkd(method=method).compile(optimizers.MultiOptimizer(by_path))
    fit(compiled(method="plain", optimizer=optimizers.MultiOptimizer(by_path)), 1)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_networks_with_a_call_of_their_own_are_refused(role):
    kinds = {"student": "adder", "teacher": "convolution"}

    class Divided(keras.Model):
        def call(self, inputs, training=None):
            return super().call(inputs / 255, training=training)

    class Named(keras.Model):
        pass

    networks = {name: network(kind) for name, kind in kinds.items()}
    own = networks[role]
    networks[role] = Named(own.inputs, own.outputs[0])
    pkkd(**networks)
    networks[role] = Divided(own.inputs, own.outputs[0])
    with pytest.raises(ValueError, match=f"{role} must compute what its layers.* Received: {role}"):
        pkkd(**networks)


def test_no_split_for_validation_may_be_none():
    compiled(method="plain").fit(*batch(4), validation_split=None, verbose=0)
