"""The collapse of the literal reading, and that the default has none, on real digits."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from pkkd_tf import PKKD, models
from pkkd_tf.distillation import FeatureMatching
from pkkd_tf.optimizers import AdderSGD

LITERAL = FeatureMatching(response="raw", teacher_side="trained", teacher_sign=-1)


def train(**options):
    digits = load_digits()
    images = digits.images[:1600, :, :, None].astype("float32") / 16 - 0.3
    keras.utils.set_random_seed(0)
    networks = (models.build("digits_resnet", kind) for kind in ("adder", "convolution"))
    model = PKKD(*networks, monitor_every=10, **options)
    model.compile(AdderSGD(0.1, weight_decay=5e-4))
    logs = model.fit(images, digits.target[:1600], batch_size=64, epochs=4, verbose=0).history
    rows = model.layer_statistics().values()
    return logs, {name: np.mean([row[name] for row in rows]) for name in next(iter(rows))}


@pytest.mark.slow
def test_the_literal_reading_collapses_and_the_default_does_not():
    logs, default = train()
    _, literal = train(matching=LITERAL, beta=1.0)
    assert literal["effective_rank"] < 1.6 and literal["similarity"] > 0.9
    assert default["effective_rank"] > 2.5
    assert 0.03 < default["share_feature"] < 0.3
    assert logs["accuracy"][-1] > 0.9 and max(logs["feature_loss"]) <= 4 * 8
