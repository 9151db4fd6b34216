import pytest

import pkkd_tf.data


@pytest.fixture(scope="module")
def digits():
    return pkkd_tf.data.load("digits")


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"name": "mnist"}, "Received: name='mnist'"),
        ({"name": "digits", "seed": -1}, "Received: seed=-1"),
        ({"name": "digits", "num_classes": 5}, "Received: num_classes=5, image_size=None"),
        ({"name": "cifar100", "num_classes": 10}, "cifar100 has 100 classes"),
        ({"name": "digits", "image_size": 32}, "images of 8x8. Received: num_classes=None"),
        ({"name": "imagenet", "image_size": 0}, "Received: image_size=0"),
        ({"name": "digits", "augmentation": "mixed"}, "Received: augmentation='mixed'"),
        ({"name": "digits", "augmentation": ("none", "mixup")}, "('none', 'mixup')"),
        ({"name": "digits", "augmentation": ("mixup", "mixup")}, "('mixup', 'mixup')"),
        ({"name": "digits", "augmentation": ("randaugment",)}, "image_shape=(8, 8, 1)"),
        ({"name": "digits", "limit_train": 0}, "Received: limit_train=0, training images=1437"),
        ({"name": "digits", "limit_train": 1438}, "limit_train=1438, training images=1437"),
        ({"name": "digits", "data_dir": "x"}, "Received: name='digits', data_dir='x', skip"),
        ({"name": "digits", "skip_broken_images": True}, "data_dir=None, skip_broken_images=True"),
        (
            {"name": "cifar10", "skip_broken_images": True},
            "imagenet, whose images are single files",
        ),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError) as caught:
        pkkd_tf.data.load(**arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize("batch_size", [0, -3, 1438])
def test_wrong_batch_size(digits, batch_size):
    for method in (digits.steps_per_epoch, digits.train):
        with pytest.raises(ValueError) as caught:
            method(batch_size)
        assert f"Received: batch_size={batch_size}, num_train=1437" in str(caught.value)


def test_wrong_test_batch_and_sample(digits):
    with pytest.raises(ValueError, match="Received: batch_size=0"):
        digits.test(0)
    for n in (0, 1438):
        with pytest.raises(ValueError, match=f"Received: n={n}, num_train=1437"):
            digits.sample(n)


@pytest.mark.parametrize(
    "epochs, start_epoch, start_step",
    [(2, -1, 0), (2, 3, 0), (2, 0, 14), (2, 0, -1), (2, 2, 1), (-1, 0, 0)],
)
def test_wrong_start(digits, epochs, start_epoch, start_step):
    with pytest.raises(ValueError) as caught:
        digits.train(100, epochs, start_epoch, start_step)
    received = f"Received: start_epoch={start_epoch}, start_step={start_step}, epochs={epochs}"
    assert received in str(caught.value)
