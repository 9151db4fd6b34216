"""`.keras` files that are damaged or hostile: one sentence, and nothing in them runs."""

import io
import json
import random
import re
import zipfile

import keras
import numpy as np
import pytest

from experiments import networks
from experiments.errors import RunError
from export.program import ExportError, load_network
from pkkd_tf.layers import AdderConv2D

LOADERS = {"experiments": networks.load, "export": load_network}
ERRORS = RunError, ExportError


@pytest.fixture(params=sorted(LOADERS))
def load(request):
    return lambda path: LOADERS[request.param](str(path), "--model")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a file that loads."""
    images = keras.Input((6, 6, 3))
    network = keras.Model(images, keras.layers.Flatten()(AdderConv2D(2, 3, name="adder")(images)))
    path = tmp_path_factory.mktemp("sound") / "network.keras"
    network.save(path)
    return path.read_bytes()


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def with_layer(sound, change):
    """The file with `change` made in the configuration of its adder layer."""
    files = members(sound)
    config = json.loads(files["config.json"])
    change(next(x for x in config["config"]["layers"] if x["name"] == "adder"))
    return packed(files | {"config.json": json.dumps(config)})


def refused(load, path, data):
    """The sentence with which `data` is refused; the file is left as it was."""
    path.write_bytes(data)
    with pytest.raises(ERRORS, match="--model must .* Received: ") as caught:
        load(path)
    assert path.read_bytes() == data and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_sound_file_loads(load, sound, tmp_path):
    path = tmp_path / "network.keras"
    path.write_bytes(sound)
    assert load(path).output_shape == (None, 32)


DAMAGED = {
    "empty": lambda sound: b"",
    "text": lambda sound: b"not a zip file",
    "half": lambda sound: sound[: len(sound) // 2],
    "without its end": lambda sound: sound[:-1],
    "a zip of something else": lambda sound: packed({"notes.txt": b"hello"}),
    "without weights": lambda sound: packed({"config.json": members(sound)["config.json"]}),
    "weights that are text": lambda sound: packed(members(sound) | {"model.weights.h5": b"x"}),
    "a configuration that is no JSON": lambda sound: packed(members(sound) | {"config.json": b"{"}),
    "a configuration that is a list": lambda sound: packed(members(sound) | {"config.json": b"[]"}),
    "deeply nested": lambda sound: packed(members(sound) | {"config.json": b"[" * 100_000}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused(load, sound, tmp_path, kind):
    refused(load, tmp_path / "network.keras", DAMAGED[kind](sound))


def test_what_is_no_file_is_refused(load, tmp_path):
    folder = tmp_path / "folder.keras"
    folder.mkdir()
    for path in (folder, tmp_path / "missing.keras"):
        with pytest.raises(ERRORS, match="--model must .* Received: .*" + re.escape(path.name)):
            load(path)


def test_changed_bytes_and_values_load_or_are_refused(load, sound, tmp_path):
    """Whatever class of error Keras raises on the way."""
    draw = random.Random(0)
    path, outcomes = tmp_path / "network.keras", set()
    for data in [_changed_bytes(sound, draw) for _ in range(30)] + [
        _changed_value(sound, draw) for _ in range(60)
    ]:
        path.write_bytes(data)
        try:
            load(path)
            outcomes.add("loads")
        except ERRORS as error:
            assert "Received: " in str(error)
            outcomes.add("refused")
    assert outcomes == {"loads", "refused"}


def _changed_bytes(sound, draw):
    data = bytearray(sound)
    for _ in range(draw.choice([1, 3, 20])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def _changed_value(sound, draw):
    files = members(sound)
    config = json.loads(files["config.json"])
    parent, key = draw.choice(list(_places(config)))
    parent[key] = draw.choice([None, 0, -1, 1.5, "x", "os", [], {}, {"class_name": "Lambda"}, 1e30])
    return packed(files | {"config.json": json.dumps(config)})


def _places(tree):
    """Every (container, key) of nested dictionaries and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def call(module, name, *arguments):
    """A configuration that names a function instead of a layer."""
    return {
        "module": module,
        "class_name": name,
        "registered_name": name,
        "config": {"args": arguments, "command": arguments[0], "path": arguments[0]},
        "build_config": {},
    }


HOSTILE = {
    "os.system": lambda mark: call("os", "system", f"touch {mark}"),
    "subprocess.Popen": lambda mark: call("subprocess", "Popen", f"touch {mark}"),
    "builtins.exec": lambda mark: call("builtins", "exec", f"open({mark!r}, 'w')"),
    "pathlib.Path": lambda mark: call("pathlib", "Path", mark),
    "a function of keras": lambda mark: call("keras.utils", "get_file", mark),
    "an unknown class": lambda mark: call("keras.layers", "Multiply2D", mark),
    "an unknown package": lambda mark: call(None, "evil>Layer", mark),
    "a SavedModel beside it": lambda mark: {
        "module": "keras.layers",
        "class_name": "TFSMLayer",
        "config": {"name": "adder", "filepath": mark},
        "registered_name": None,
    },
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_classes_that_are_no_layers_are_refused(load, sound, tmp_path, kind):
    mark = tmp_path / "mark"
    change = HOSTILE[kind](str(mark))
    data = with_layer(sound, lambda layer: layer.update(change))
    refused(load, tmp_path / "network.keras", data)
    assert not mark.exists()


@pytest.mark.parametrize("place", ["kernel_initializer", "activation", "kernel_constraint"])
def test_functions_as_arguments_of_a_layer_are_refused(load, sound, tmp_path, place):
    mark = tmp_path / "mark"
    value = call("os", "system", f"touch {mark}")
    data = with_layer(sound, lambda layer: layer["config"].update({place: value}))
    refused(load, tmp_path / "network.keras", data)
    assert not mark.exists()


def test_code_in_a_lambda_layer_does_not_run(load, tmp_path):
    mark, path = str(tmp_path / "mark"), tmp_path / "network.keras"
    images = keras.Input((4, 4, 1))
    layer = keras.layers.Lambda(lambda x: (open(mark, "a").close(), x)[1], output_shape=(4, 4, 1))
    keras.Model(images, layer(images)).save(path)
    (tmp_path / "mark").unlink(missing_ok=True)  # building the network ran it
    assert "Lambda" in refused(load, path, path.read_bytes())
    assert not (tmp_path / "mark").exists()
    # The code is in the file: out of safe mode it runs.
    trusting = keras.models.load_model(path, compile=False, safe_mode=False)
    trusting(np.zeros((1, 4, 4, 1)))
    assert (tmp_path / "mark").exists()
