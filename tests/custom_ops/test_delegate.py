"""The TFLite delegate: right answers in both interpreters, and words instead of crashes."""

import ctypes
import itertools
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from custom_ops import build_delegate
from tests import delegate_library, numpy_adder
from tests.adder_models import FLOAT, OPTIONS, adder_model, operator_model, to_bytes
from tests.custom_ops import delegate_fuzz

KINDS = sorted(delegate_library.INTERPRETERS)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def geometry(options):
    padding = (
        (options["pad_top"], options["pad_bottom"]),
        (options["pad_left"], options["pad_right"]),
    )
    strides = (options["stride_h"], options["stride_w"])
    dilations = (options["dilation_h"], options["dilation_w"])
    return strides, padding, dilations, options["groups"]


CASES = {
    "plain": ((1, 6, 5, 4), (3, 3, 4, 8), {}),
    "pointwise": ((3, 4, 4, 17), (1, 1, 17, 5), dict.fromkeys(list(OPTIONS)[2:6], 0)),
    "stride": ((2, 9, 8, 3), (3, 3, 3, 5), {"stride_h": 2, "stride_w": 3}),
    "pads": ((2, 5, 4, 2), (3, 2, 2, 3), {"pad_top": 0, "pad_bottom": 4, "pad_right": 2}),
    "dilation": ((1, 9, 9, 5), (3, 3, 5, 16), {"dilation_h": 2, "dilation_w": 3}),
    "groups": ((2, 5, 5, 6), (3, 3, 2, 9), {"groups": 3}),
    "depthwise": ((1, 7, 7, 33), (3, 3, 1, 33), {"groups": 33}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_response(case, kind):
    x_shape, f_shape, changes = CASES[case]
    options = OPTIONS | changes
    x, f = numbers(*x_shape), numbers(*f_shape)
    model = to_bytes(adder_model((1, *x_shape[1:]), f, options))
    y = delegate_library.run(delegate_library.interpreter(model, kind), x)
    np.testing.assert_allclose(y, numpy_adder.forward(x, f, *geometry(options)), rtol=1e-5)


@pytest.mark.parametrize("affine,residual,relu", [*itertools.product([0, 1], repeat=3)])
def test_what_follows_the_response(affine, residual, relu):
    x, f = numbers(2, 5, 5, 3), numbers(3, 3, 3, 7)
    scale, offset, other = numbers(7), 20 * numbers(7), numbers(2, 5, 5, 7)
    options = OPTIONS | {"affine": affine, "residual": residual, "relu": relu}
    extra = {"scale": scale, "offset": offset} if affine else {}
    extra |= {"residual_shape": (1, 5, 5, 7)} if residual else {}
    made = delegate_library.interpreter(to_bytes(adder_model((1, 5, 5, 3), f, options, **extra)))
    expected = numpy_adder.forward(x, f, padding="SAME")
    expected = expected * scale + offset if affine else expected
    expected = expected + other if residual else expected
    expected = np.maximum(expected, 0) if relu else expected
    y = delegate_library.run(made, *([x, other] if residual else [x]))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


def test_relu_keeps_what_is_not_a_number():
    x, f = numbers(1, 4, 4, 2), numbers(1, 1, 2, 3)
    x[0, 1, 2, 0] = np.nan
    pads = dict.fromkeys(list(OPTIONS)[2:6], 0)
    model = to_bytes(adder_model(x.shape, f, OPTIONS | pads | {"relu": 1}))
    y = delegate_library.run(delegate_library.interpreter(model), x)
    assert np.isnan(y[0, 1, 2]).all() and np.isnan(y).sum() == 3


@pytest.mark.parametrize("case", ["plain", "depthwise"])
def test_filters_may_be_computed(case):
    x_shape, f_shape, changes = CASES[case]
    inputs = {"x": (FLOAT, x_shape), "filters": (FLOAT, f_shape)}
    model = operator_model(inputs, (FLOAT, (1, 1, 1, 1)), OPTIONS | changes)
    made = delegate_library.interpreter(to_bytes(model))
    for f in (numbers(*f_shape), numbers(*f_shape) + 1):
        y = delegate_library.run(made, numbers(*x_shape), f)
        expected = numpy_adder.forward(numbers(*x_shape), f, *geometry(OPTIONS | changes))
        np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_threads_change_nothing():
    x, f = numbers(3, 32, 32, 16), numbers(3, 3, 16, 32)
    model = to_bytes(adder_model((1, 32, 32, 16), f, OPTIONS | {"relu": 0}))
    outputs = [
        delegate_library.run(delegate_library.interpreter(model, num_threads=threads), x)
        for threads in (None, 1, 2, 5)
    ]
    for y in outputs[1:]:
        np.testing.assert_array_equal(y, outputs[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 3])
def test_the_batch_may_change_and_be_empty(kind, window):
    f = numbers(window, window, 2, 4)
    options = OPTIONS | dict.fromkeys(list(OPTIONS)[2:6], window // 2)
    made = delegate_library.interpreter(to_bytes(adder_model((1, 4, 4, 2), f, options)), kind)
    for batch in (3, 0, 1, 5):
        x = numbers(batch, 4, 4, 2)
        y = delegate_library.run(made, x)
        np.testing.assert_allclose(y, numpy_adder.forward(x, f, padding="SAME"), rtol=1e-5)


FORKED = """
import os, sys, time
from tests import delegate_library
made = delegate_library.interpreter(open(sys.argv[1], "rb").read(), sys.argv[2], num_threads=2)
made.invoke()
if not (child := os.fork()):
    made.invoke()
    del made
    os._exit(0)
for _ in range(1000):
    time.sleep(0.02)
    if os.waitpid(child, os.WNOHANG) == (child, 0):
        sys.exit(0)
os.kill(child, 9)
sys.exit("the child waits for threads that it does not have")
"""


@pytest.mark.slow
def test_a_forked_process_may_end_an_interpreter(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(to_bytes(adder_model((8, 16, 16, 16), numbers(3, 3, 16, 16), OPTIONS)))
    delegate_library.path()
    command = [sys.executable, "-c", FORKED, path, KINDS[0]]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr


def test_links_to_nothing_and_shows_two_functions():
    library = str(delegate_library.path())
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    names = set(re.findall(r"NEEDED.*\[(.*?)\.so", needed.stdout))
    assert names <= {"libc", "libm", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == [
        "tflite_plugin_create_delegate",
        "tflite_plugin_destroy_delegate",
    ]


def test_flags_are_1_by_default_and_can_be_set():
    library = ctypes.CDLL(str(delegate_library.path()))
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    for options, expected in (({}, 1), ({b"flags": b"1"}, 1), ({b"flags": b"4"}, 4)):
        keys, values = (
            (ctypes.c_char_p * len(options))(*texts) for texts in (options, options.values())
        )
        delegate = library.tflite_plugin_create_delegate(
            keys, values, ctypes.c_size_t(len(options)), None
        )
        assert ctypes.c_int64.from_address(delegate + 40).value == expected
        library.tflite_plugin_destroy_delegate(ctypes.c_void_p(delegate))
    library.tflite_plugin_destroy_delegate(None)


def test_without_report_error_the_reason_goes_to_stderr(capfd):
    library = ctypes.CDLL(str(delegate_library.path()))
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    keys, values = ((ctypes.c_char_p * 1)(text) for text in (b"threads", b"7"))
    assert library.tflite_plugin_create_delegate(keys, values, ctypes.c_size_t(1), None) is None
    assert capfd.readouterr().err == (
        "The adder delegate has one option, flags. Received: threads=7\n"
    )


@pytest.mark.parametrize("value", ["", "one", "1x", "-1", "99999999999999999999"])
def test_flags_must_be_an_integer(value):
    with pytest.raises(ValueError, match=r"flags must be an integer >= 0. Received: flags="):
        delegate_library.load({"flags": value})


def test_without_dynamic_tensors_tflite_itself_refuses():
    model = to_bytes(adder_model((1, 4, 4, 2), numbers(3, 3, 2, 4)))
    with pytest.raises(RuntimeError, match="unresolved custom op: AdderConv2D"):
        delegate_library.interpreter(model, options={"flags": "0"})


def without(name):
    return {key: value for key, value in OPTIONS.items() if key != name}


def with_input(index, value):
    def change(model):
        model.subgraphs[0].operators[0].inputs[index] = value

    return change


def with_tensor(index, **fields):
    def change(model):
        for name, value in fields.items():
            setattr(model.subgraphs[0].tensors[index], name, value)

    return change


def dropped_input(model):
    model.subgraphs[0].operators[0].inputs.pop()


UINT8, INT8 = 3, 9
DAMAGES = {
    "no bytes": (b"", None, "must be a FlexBuffer map of integers. Received: 0 bytes"),
    "noise": (b"\x07\x24\x01", None, "FlexBuffer map of integers. Received: 3 bytes"),
    "text": (OPTIONS | {"groups": "one"}, None, "FlexBuffer map of integers"),
    "missing": (without("pad_left"), None, "needs the option pad_left. Received: options without"),
    "unknown": (OPTIONS | {"relu6": 1}, None, 'known to this delegate. Received: option "relu6"'),
    "zero stride": (OPTIONS | {"stride_h": 0}, None, "from 1 to 65535. Received: stride_h=0"),
    "far pad": (OPTIONS | {"pad_top": 70000}, None, "from 0 to 65535. Received: pad_top=70000"),
    "negative": (OPTIONS | {"dilation_w": -2}, None, "from 1 to 65535. Received: dilation_w=-2"),
    "huge": (OPTIONS | {"groups": 2**62}, None, "Received: groups=4611686018427387904"),
    "two": (OPTIONS | {"relu": 2}, None, "from 0 to 1. Received: relu=2"),
    "groups": (OPTIONS | {"groups": 2}, None, "times groups. Received: x.shape=(1, 6, 6, 4), fil"),
    "window": (OPTIONS | {"dilation_h": 9}, None, "fit into the padded image at least once"),
    "image": (
        OPTIONS | dict.fromkeys(list(OPTIONS)[2:6], 65535),
        None,
        "must hold at most 268435456 numbers",
    ),
    "few inputs": (None, dropped_input, "must have 2 inputs, as x and its options say, and 1"),
    "many inputs": (OPTIONS | {"affine": 1}, None, "must have 4 inputs"),
    "no tensor": (None, with_input(1, -1), "must be a tensor of the graph. Received: tensor ind"),
    "type": (None, with_tensor(0, type=UINT8), "must be float32 or int8. Received: type number=3"),
    "filter type": (None, with_tensor(1, type=INT8), "float32 if x is. Received: type number=9"),
    "output type": (None, with_tensor(2, type=INT8), "float32 if x is. Received: type number=9"),
    "int8": (None, with_tensor(0, type=INT8), "needs the option zero. Received: options without"),
    "rank": (None, with_tensor(0, shape=[6, 6, 4]), "must have 4 dimensions. Received: x.shape="),
    "channels": (None, with_tensor(0, shape=[1, 6, 6, 5]), "times groups. Received: x.shape="),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_gets_an_error(damage, kind):
    options, change, message = DAMAGES[damage]
    model = adder_model((1, 6, 6, 4), numbers(3, 3, 4, 8), options)
    if change:
        change(model)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        delegate_library.interpreter(to_bytes(model), kind)


def test_outputs_must_be_whole_groups():
    model = adder_model((1, 6, 6, 4), numbers(3, 3, 2, 3), OPTIONS | {"groups": 2})
    with pytest.raises(RuntimeError, match="must be a positive multiple of groups"):
        delegate_library.interpreter(to_bytes(model))


@pytest.mark.parametrize(
    "extra,message",
    [
        ({"scale": numbers(7), "offset": numbers(8)}, "a number for each output. Received: shap"),
        ({"residual_shape": (1, 6, 6, 7)}, "residual must have the shape of the output. Receive"),
        ({"residual_shape": (2, 6, 6, 8)}, "shape=(2, 6, 6, 8), wanted shape=(1, 6, 6, 8)"),
    ],
)
def test_extra_inputs_must_fit(extra, message):
    options = OPTIONS | ({"affine": 1} if "scale" in extra else {"residual": 1})
    model = adder_model((1, 6, 6, 4), numbers(3, 3, 4, 8), options, **extra)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        delegate_library.interpreter(to_bytes(model))


def test_random_damage_is_survived():
    refused, ran = delegate_fuzz.run(delegate_library.path(), 300)
    assert refused > 100 and ran > 10


@pytest.mark.slow
def test_random_damage_under_sanitizers(tmp_path):
    library = build_delegate.build_delegate(
        tmp_path / "delegate.so", quiet=True, sanitize="address,undefined"
    )
    preload = [
        subprocess.run(
            ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    settings = {"LD_PRELOAD": " ".join(preload), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.custom_ops.delegate_fuzz", str(library), "2000"],
        env=os.environ | settings,
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.fullmatch(r"refused \d{3,4}, ran \d{3,4}\n", done.stdout)
