"""The profile of a training step: what is read out of a recording, and one real run."""

import json

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import measure, report, step_parts, step_profile, xplane
from pkkd_tf.ops import compiled

IN_STEP = "StatefulPartitionedCall"


def plane(space, name, lines):
    """Adds a plane; lines hold (name, begin, length, TensorFlow's name of a kernel)."""
    made = space.planes.add(name=name)
    made.stat_metadata[1].name = "tf_op"
    numbers = iter(range(2, 1000))
    for events in lines:
        line = made.lines.add(timestamp_ns=1000)
        for text, begin, length, operation in events:
            number = next(numbers)
            made.event_metadata[number].name = text
            event = line.events.add(
                metadata_id=number, offset_ps=begin * 10**12, duration_ps=length * 10**12
            )
            if operation:
                made.stat_metadata[number].name = operation
                event.stats.add(metadata_id=1, ref_value=number)
    return made


def host_space():
    space = xplane_pb2.XSpace()
    student, update = f"{IN_STEP}/student/f/conv/Conv2D", f"{IN_STEP}/update/sgd/mul"
    first = [
        ("ExecutorState::Process", 0, 10, None),
        (f"{IN_STEP}:StatefulPartitionedCall", 0, 10, None),
        (f"{student}:_MklNativeConv2D", 1, 3, None),
        ("ParallelFor", 1, 2, None),
        (f"{update}:Mul", 6, 4, None),
    ]
    plane(space, "/host:CPU", [first, [(f"{update}_1:Mul", 12, 8, None)]])
    return space


def test_time_of_a_call_is_without_what_it_calls():
    (host,) = host_space().planes
    own = {event.name: (event.kind, event.own / xplane.PER_SECOND) for event in xplane.events(host)}
    assert own == {
        IN_STEP: ("StatefulPartitionedCall", 3),
        f"{IN_STEP}/student/f/conv/Conv2D": ("_MklNativeConv2D", 3),
        f"{IN_STEP}/update/sgd/mul": ("Mul", 4),
        f"{IN_STEP}/update/sgd/mul_1": ("Mul", 8),
    }


def test_tables_sum_by_part_kind_and_share_and_tell_idle_time():
    tables = step_parts.tables(host_space(), steps=2)
    assert tables["idle"] == pytest.approx(2 / 20) and tables["launched"] == 2
    optimizer = tables["parts"][0]
    assert optimizer == {
        "name": "optimizer",
        "ms": pytest.approx(6000),
        "share": pytest.approx(12 / 18),
        "operations": 1,
    }
    assert [r["name"] for r in tables["kinds"]][:1] == ["Mul"]


def test_the_fastest_run_of_an_operation_counts():
    space, name = xplane_pb2.XSpace(), f"{IN_STEP}/update/mul:Mul"
    plane(space, "/host:CPU", [[(name, 0, 5, None), (name, 7, 1, None), (name, 8, 2, None)]])
    (row,) = step_parts.tables(space, steps=3)["parts"]
    assert (row["ms"], row["operations"]) == (pytest.approx(1000), 1)


def test_of_a_gpu_its_kernels_count_under_their_operations():
    space = host_space()
    kernels = [
        ("ampere_sgemm", 2, 2, f"{IN_STEP}/gradient_tape/student/f/c/Conv2DBackpropInput:Conv2D"),
        ("MemcpyH2D", 5, 1, f"{IN_STEP}/input/GatherV2:GatherV2"),
        ("memset", 11, 1, None),
    ]
    plane(space, "/device:GPU:0", [kernels, [("mul_kernel", 3, 2, f"{IN_STEP}/update/mul:Mul")]])
    tables = step_parts.tables(space, steps=1)
    assert tables["device"] == "/device:GPU:0"
    assert tables["idle"] == pytest.approx(1 - 5 / 10) and tables["launched"] == 4
    parts = {r["name"]: r["ms"] for r in tables["parts"]}
    assert parts["student, backward"] == pytest.approx(2000) == parts["optimizer"]
    assert {r["name"]: r["ms"] for r in tables["work"]}["copies"] == pytest.approx(1000)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("student/functional_2/stage1_block1_conv1/PkkdAdderConv2D", "student, forward"),
        ("gradient_tape/student/functional_2/stem_norm/moments/Mul", "student, backward"),
        ("student_backward/PkkdAdderConv2DInputGradient_3", "student, backward"),
        ("gradient_tape/teacher/functional_3/pool/Cast", "teacher, backward"),
        ("features/features_stage1_block1_conv2/FusedBatchNormV3", "feature loss"),
        ("gradient_tape/features/features_stage1_block1_conv2/mul/Mul", "feature loss"),
        ("monitor/cond/then/_0/monitor/cond/gradient_tape/student/f/c/Mul", "monitor"),
        ("update/adder_sgd/mul_25", "optimizer"),
        ("input/GatherV2", "batch: crop, flip, normalise"),
        ("gradient_tape/losses/Reshape", "losses"),
        ("metrics/Sum_4", "metrics"),
        ("AddN_4", "other"),
    ],
)
def test_parts_of_a_step(name, expected):
    assert step_parts.part(f"{IN_STEP}/{name}") == expected


def test_what_is_outside_of_the_step_feeds_it():
    assert step_parts.part("stateless_random_uniform/StatelessRandomUniformIntV2") == (
        "input pipeline"
    )


def test_what_xla_compiled_is_a_part_of_its_own():
    assert step_parts.part("cluster_12_1/xla_run") == "compiled by XLA"
    assert step_parts.work("cluster_12_1/merge_oidx_0", "_XlaMerge") == "compiled by XLA"


def test_a_real_recording_holds_the_operations():
    x = tf.ones((64, 64))
    step = tf.function(lambda: tf.sqrt(x, name="root"))
    step()
    with xplane.traced() as found:
        step()
    events = xplane.events(xplane.device_plane(found[0]))
    roots = [e for e in events if e.kind == "Sqrt"]
    assert [e.name for e in roots] == ["root"]
    assert 0 < roots[0].own == roots[0].end - roots[0].begin


@pytest.mark.long
def test_command_profiles_both_placements(tmp_path, monkeypatch, capsys):
    arguments = ["--batch=4", "--steps=1", "--method=kd", f"--output={tmp_path}"]
    monkeypatch.setattr("sys.argv", ["step_profile", *arguments])
    step_profile.main()
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert [p["placement"] for p in record["profiles"]] == ["host", "device"]
    for profiled in record["profiles"]:
        names = {row["name"] for row in profiled["parts"]}
        assert {"student, forward", "student, backward", "teacher, backward"} <= names
        assert {"optimizer", "losses", "metrics", "input pipeline"} <= names
        assert sum(row["share"] for row in profiled["parts"]) == pytest.approx(1)
        assert profiled["seconds"] > 0 and profiled["measuring"]["operations"] > 100
    assert "batch: crop, flip, normalise" in names
    assert (tmp_path / "cpu.md").read_text() in capsys.readouterr().out


def test_the_table_is_headed_by_what_computed(monkeypatch):
    assert measure.gpu() == {} or tf.config.list_physical_devices("GPU")
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [gpu])
    details = {"device_name": "NVIDIA H100"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"cuda_version": "12.5.1"})
    monkeypatch.setattr(compiled, "gpu_obstacle", lambda: "an old driver")
    assert measure.gpu()["kernels"] == "no CUDA"
    monkeypatch.setattr(compiled, "gpu_obstacle", lambda: "")
    machine = measure.machine(8) | {"kernels": "avx512"} | measure.gpu()
    first = "NVIDIA H100, CUDA 12.5.1, 8 threads, wall time, CUDA kernels, TensorFlow "
    assert report.describe(machine).startswith(first)
    assert machine["host"] == measure.machine(8)["device"]
