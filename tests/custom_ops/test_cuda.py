"""The GPU kernels, emulated on the processor: the same sources, compiled with emulation.h.

Or on a GPU, where the environment variable PKKD_TF_CUDA_LIBRARY names their library: as
`custom_ops.build_cuda` says, without TensorFlow.
"""

import json
import os
import pathlib
import re

import numpy as np
import pytest

from benchmarks import gpu_kernels, gpu_library
from benchmarks.shapes import Layer
from custom_ops import build_cuda, cuda_grid_test
from tests import numpy_adder
from tests.custom_ops import native

TILES = range(-1, 5)
DIRECT = 4
SAME = ((1, 1), "SAME", (1, 1), 1)
LIBRARY = os.environ.get("PKKD_TF_CUDA_LIBRARY")


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    if LIBRARY:
        return gpu_library.Gpu(pathlib.Path(LIBRARY).resolve())
    path = tmp_path_factory.mktemp("cuda") / "cuda.so"
    return gpu_library.Gpu(build_cuda.build_kernels(path, quiet=True, emulate=True))


def run(gpu, name, arrays, geometry=SAME, slope="clipped", tile=-1):
    arrays = tuple(map(np.ascontiguousarray, arrays))
    sizes = native.sizes(*arrays[:2], *geometry)
    if len(arrays) == 2:
        arrays += (np.zeros(gpu_library.shapes(sizes)[2], arrays[0].dtype),)
    call = gpu_library.Call(gpu, name, sizes, arrays[0].dtype.name, arrays=arrays, slope=slope)
    result = call.result(tile)
    call.free()
    return result


@pytest.mark.slow
@pytest.mark.skipif(bool(LIBRARY), reason="a GPU runs it by `--grid_test`")
def test_grid_under_the_address_sanitizer():
    """Every kernel and tile; more shapes: `python -m custom_ops.build_cuda --emulate`."""
    report = cuda_grid_test.run_emulated(every=91, sanitize="address", quiet=True)
    last = re.search(r"^(\d+) comparisons of (\d+) shapes", report, re.MULTILINE)
    comparisons, shapes = map(int, last.groups())
    assert shapes >= 29 and comparisons == shapes * 28


def normal_case(inputs, offset, batch=1):
    rng = np.random.default_rng(1)
    if offset == "a channel's own":
        offset = rng.normal(size=(inputs, 1)) * 1000
    x = (rng.normal(size=(batch, 4, 4, inputs)) + np.ravel(offset)).astype(np.float32)
    f = (rng.normal(size=(3, 3, inputs, 24)) + offset).astype(np.float32)
    return x, f, rng.normal(size=(batch, 4, 4, 24)).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -3.0, "a channel's own"])
@pytest.mark.parametrize("inputs", [2, 15, 16, 512])
def test_accuracy(gpu, inputs, offset):
    """Sums of 18 to 4608 terms; the largest error seen was 3.3e-6 of the response."""
    x, f, dy = normal_case(inputs, offset)
    y = numpy_adder.forward(x, f, padding="SAME")
    np.testing.assert_allclose(run(gpu, "forward", (x, f)), y, rtol=5e-6)
    dx, _ = numpy_adder.gradients(x, f, dy, *SAME, "clipped")
    actual = run(gpu, "input gradient", (x, f, dy))
    np.testing.assert_allclose(actual, dx, atol=3e-6 * np.sqrt(9 * 24), rtol=1e-6)


def test_inputs_near_the_filters(gpu):
    """A term of the clipped gradient errs by up to 2^-23 |G|, however small it is itself."""
    x, f, dy = normal_case(16, 0.0)
    x, dy, window = 0 * x + x[:, :1, :1], dy[:, :2, :2], ((1, 1), "VALID", (1, 1), 1)
    f = (x[0, 0, 0, :, None] + 1e-4 * f).astype(np.float32)
    dx, _ = numpy_adder.gradients(x, f, dy, *window, "clipped")
    actual = run(gpu, "input gradient", (x, f, dy), window)
    most = 2.0**-23 * np.abs(dy).sum()
    assert 0.05 * most < np.abs(actual - dx).max() <= most < 0.02 * np.abs(dx).max()


def test_float16_adds_in_float16_and_errs_little(gpu):
    x, f, _ = normal_case(256, 0.0)
    x, f = x.astype(np.float16), f.astype(np.float16)
    y = numpy_adder.forward(x, f, padding="SAME")
    np.testing.assert_allclose(run(gpu, "forward", (x, f)), y, rtol=1e-3)


def test_float16_response_overflows_only_where_it_must(gpu):
    x = np.full((1, 1, 1, 16), 60000, np.float16)
    f = np.full((1, 1, 16, 2), 60000, np.float16)
    f[..., 1] = 0
    f[0, 0, 0] -= 40000
    np.testing.assert_array_equal(run(gpu, "forward", (x, f)).ravel(), [-40000, -np.inf])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bits_depend_neither_on_tile_nor_on_batch_nor_on_the_run(gpu, dtype):
    arrays = [a.astype(dtype) for a in normal_case(19, 0.0, batch=5)]
    for name in gpu_kernels.LIMITS:
        first = run(gpu, name[0], arrays)
        for tile in range(DIRECT):
            np.testing.assert_array_equal(run(gpu, name[0], arrays, tile=tile), first)
        x, f, dy = arrays
        np.testing.assert_array_equal(run(gpu, name[0], (x[3:4], f, dy[3:4])), first[3:4])


def test_response_is_never_positive_and_zero_at_a_match(gpu):
    _, f, _ = normal_case(30, 0.0)
    for tile in TILES:
        y = run(gpu, "forward", (f[..., 0][None], f), ((1, 1), "VALID", (1, 1), 1), tile=tile)
        assert y[..., 0] == 0 and not np.signbit(y[..., 0])
        assert (y[..., 1:] < 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_and_infinity_reach_what_they_touch(gpu, value, where):
    geometry, rng = ((2, 1), "SAME", (1, 1), 1), np.random.default_rng(2)
    shapes = ((2, 6, 5, 7), (3, 2, 7, 5), (2, 3, 5, 5))
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    arrays[where][tuple(size // 2 for size in shapes[where])] = value
    with np.errstate(invalid="ignore"):
        y = numpy_adder.forward(*arrays[:2], *geometry)
        dx = {m: numpy_adder.gradients(*arrays, *geometry, m)[0] for m in native.SLOPES}
    for tile in TILES:
        actual = run(gpu, "forward", arrays[:2], geometry, tile=tile)
        np.testing.assert_allclose(actual, y, rtol=1e-6)
        for slope in native.SLOPES:
            actual = run(gpu, "input gradient", arrays, geometry, slope, tile)
            np.testing.assert_allclose(actual, dx[slope], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_16_bits(gpu, dtype):
    """A 1x1 window and one filter of zero: Y = -|X|."""
    x = np.arange(65536, dtype=np.uint16).view(native.TYPES[dtype]).reshape(1, 256, 256, 1)
    y = run(gpu, "forward", (x, np.zeros((1, 1, 1, 1), x.dtype)))
    np.testing.assert_array_equal(y.astype(np.float32), -np.abs(x.astype(np.float32)))


def test_depthwise_layers_need_no_tile(gpu):
    rng, geometry = np.random.default_rng(3), ((2, 2), "SAME", (1, 1), 6)
    x, f = (rng.integers(-255, 256, s) / 64 for s in ((2, 7, 7, 6), (3, 3, 1, 12)))
    y = numpy_adder.forward(x, f, *geometry)
    dx, _ = numpy_adder.gradients(x, f, y, *geometry, "clipped")
    arrays = [a.astype(np.float32) for a in (x, f, y)]
    np.testing.assert_array_equal(run(gpu, "forward", arrays[:2], geometry), y)
    np.testing.assert_array_equal(run(gpu, "input gradient", arrays, geometry), dx)


def test_empty_batch_and_images_too_large_for_a_launch(gpu):
    _, f, dy = normal_case(16, 0.0)
    assert run(gpu, "forward", (np.empty((0, 4, 4, 16), np.float32), f)).shape == (0, 4, 4, 24)
    call = gpu_library.Call(gpu, "forward", native.sizes(dy, f, *SAME), "float32", arrays=(dy,) * 3)
    call.sizes[1:3] = 2**15, 2**15
    with pytest.raises(RuntimeError, match="Received: CUDA error 1, invalid argument"):
        call.launch()
    call.free()


def test_benchmark(gpu, tmp_path, capsys, monkeypatch):
    small = [
        Layer("ResNet-20", 2, 6, 16, 16, 3),
        Layer("ResNet-20", 2, 7, 8, 20, 3, 2),
        Layer("ResNet-50", 2, 8, 8, 20, 1),
    ]
    monkeypatch.setattr(gpu_kernels, "layers", lambda batch: small)
    monkeypatch.setattr(gpu_kernels, "FLUSH_BYTES", 2**10)
    options = ["--network=ResNet-20", "--batch=2", "--repeats=2", "--every_tile"]
    library = f"--library={gpu.functions._name}"
    gpu_kernels.main([*options, library, f"--output={tmp_path}"])
    record = json.loads((tmp_path / "gpu_kernels.json").read_text())
    assert record["device"] == gpu.name()
    assert [row["layer"] for row in record["rows"]] == [s.name for s in small[:2] for _ in range(3)]
    assert all(row["correct"] and row["same_bits"] and row["error"] > 0 for row in record["rows"])
    assert all(len(row["tiles"]) == len(TILES) - 1 for row in record["rows"])
    table = capsys.readouterr().out
    assert "| ResNet-20, 2: 7x7, 8 -> 20, 3x3/2 | input gradient float32 | " in table


def test_benchmark_ends_in_error_where_a_result_is_wrong(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_kernels, "layers", lambda batch: [Layer("ResNet-20", 2, 3, 4, 4, 1)])
    monkeypatch.setattr(gpu_kernels, "FLUSH_BYTES", 2**10)
    monkeypatch.setattr(gpu_kernels.gpu_reference, "sample", lambda *_: {(0, 0, 0, 0): 1.0})
    arguments = [f"--library={gpu.functions._name}", "--repeats=1", f"--output={tmp_path}"]
    with pytest.raises(SystemExit, match="A result is wrong or differs"):
        gpu_kernels.main(arguments)


def test_a_killed_benchmark_leaves_its_rows(gpu, tmp_path, monkeypatch):
    measure = gpu_kernels.measure

    def killed(*arguments):
        yield next(measure(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_kernels, "measure", killed)
    monkeypatch.setattr(gpu_kernels, "layers", lambda batch: [Layer("ResNet-20", 2, 3, 4, 4, 1)])
    monkeypatch.setattr(gpu_kernels, "FLUSH_BYTES", 2**10)
    with pytest.raises(KeyboardInterrupt):
        gpu_kernels.main([f"--library={gpu.functions._name}", f"--output={tmp_path}"])
    (path,) = tmp_path.iterdir()
    assert len(json.loads(path.read_text())["rows"]) == 1


def test_benchmark_without_the_library(tmp_path):
    with pytest.raises(SystemExit, match="python -m custom_ops.build_cuda"):
        gpu_kernels.main([f"--library={tmp_path / 'missing.so'}"])
