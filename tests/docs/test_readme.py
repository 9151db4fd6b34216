"""What the README tells a reader to type, typed."""

import pathlib
import re
import shlex
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

import pkkd_tf

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST, LOADING, OWN = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:3]
# Those with flags: `make demo` types the one without, which the gate does before the tests.
COMMANDS = re.findall(r"^python -m (experiments\.\w+) (.*)$", README, re.MULTILINE)
DEPLOY = re.findall(r"^python -m ((?:export|custom_ops)\.\w+)(.*)$", README, re.MULTILINE)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Images for the commands' DIR: CIFAR as .npy, and class folders of JPEGs."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", np.arange(64) % 10)
    for split in ("train", "val"):
        for name in ("daisy", "rose"):
            (folder / split / name).mkdir(parents=True)
            for i, image in enumerate(images[:20]):
                jpeg = tf.io.encode_jpeg(tf.constant(image)).numpy()
                (folder / split / name / f"{i}.jpg").write_bytes(jpeg)
    return folder


def run(module, arguments):
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_first_lines_of_python_train_a_student():
    namespace = {}
    exec(FIRST.replace("epochs=25", "epochs=2"), namespace)
    assert namespace["model"].student.name == "digits_resnet_adder"
    assert int(namespace["model"].optimizer.iterations) == 2 * 22


@pytest.mark.slow
def test_networks_of_a_readers_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Batch normalization of an adder network")
        exec(OWN.replace("epochs=25", "epochs=2").replace("25 *", "2 *"), namespace)
    assert namespace["model"].matched_layers == ["conv0", "conv1", "conv2"]
    student = tf.keras.models.load_model("student.keras")
    assert student.count_params() == namespace["model"].student.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("module, arguments", COMMANDS)
def test_training_commands(module, arguments, data_dir, tmp_path):
    words = shlex.split(arguments.replace("DIR", str(data_dir)))
    words = [w for w in words if not w.startswith("--output")]
    stdout = run(module, [*words, f"--output={tmp_path / 'run'}", "--smoke", "--verbose=0"])
    assert "student" in stdout or "ANN" in stdout
    code = LOADING.replace("runs/r20", str(tmp_path / "run"))
    namespace = {}
    exec(code, namespace)
    assert namespace["student"].count_params() > 0


@pytest.mark.slow
def test_deployment_commands(tmp_path):
    for name, kind in (("student", "adder"), ("teacher", "convolution")):
        pkkd_tf.models.build("digits_resnet", kind).save(tmp_path / f"{name}.keras")
    names = {"student.keras": "student.keras", "teacher.keras": "teacher.keras"}
    for number, (module, arguments) in enumerate(DEPLOY):
        arguments = arguments.replace("--calibration_data=DATA", "")  # digits come along
        names |= {"DIR": f"folder{number}", "cifar10": "digits"}
        if "--format" in arguments:
            names["FILE"] = f"file{number}"  # the benchmark reads what was written last
        for word, own in names.items():
            own = own if word == "cifar10" else str(tmp_path / own)
            arguments = re.sub(rf"(?<=[=]){re.escape(word)}", own, arguments)
        run(module, shlex.split(arguments))
    assert len(DEPLOY) == 7 and (tmp_path / "folder6" / "energy.json").is_file()
    assert (tmp_path / "folder0" / "saved_model.pb").is_file()


def test_commands_are_found():
    assert [module for module, _ in COMMANDS] == ["experiments.cifar", "experiments.imagenet"]


def test_counts_in_the_table():
    for name, depth in (("ResNet-20", "resnet20"), ("ResNet-32", "resnet32")):
        row = re.search(rf"\| {name}, CIFAR \| (.*) \| (.*) \|", README)
        networks = [pkkd_tf.models.build(depth, k) for k in ("convolution", "adder")]
        for cell, quantity in zip(row.groups(), ("multiplications", "additions")):
            counts = [
                sum(getattr(o, quantity) for o in pkkd_tf.analysis.count_operations(n))
                for n in networks
            ]
            assert cell == " → ".join(f"{c / 1e6:.2f} M" for c in counts)


def test_links_and_files_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(
        r"flags/\w+\.cfg", README
    ):
        assert (ROOT / path).exists(), path
