"""Where workers find each other: TF_CONFIG, Slurm's variables, the launcher's ports."""

import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from experiments import cluster, devices, launch
from experiments.errors import RunError

ROOT = pathlib.Path(__file__).parents[2]
GOOD = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID", "SLURMD_NODENAME", "TPU_NAME"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back too
        monkeypatch.delenv(name)


@pytest.mark.parametrize("strategy", ["auto", "one_device", "mirrored"])
def test_workers_do_not_train_alone_in_one_folder(monkeypatch, strategy):
    monkeypatch.setenv("TF_CONFIG", json.dumps(GOOD))
    rule = f"Several workers need --strategy=multi_worker. Received: strategy={strategy}, 2 workers"
    with pytest.raises(RunError, match=rule):
        devices.make_strategy(strategy)
    monkeypatch.setenv(
        "TF_CONFIG",
        json.dumps(GOOD | {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}),
    )
    assert devices.make_strategy("one_device").num_replicas_in_sync == 1


@pytest.mark.slow
def test_a_processor_of_several_devices_trains_by_several_replicas(tmp_path):
    program = [sys.executable, "-m", "experiments.digits", "--smoke", "--method=plain"]
    given = ["--nocompare_plain", "--strategy=mirrored", "--logical_devices=4"]
    command = [*program, *given, f"--output={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "student.keras").is_file()
    command += ["--logical_devices=3", "--nosmoke", "--batch_size=64"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "multiple of the number of replicas" in done.stderr and "replicas=3" in done.stderr


def test_a_processor_is_split_before_tensorflow_starts(monkeypatch):
    tf.zeros([])
    with pytest.raises(RunError, match="must be set before .* Received: logical_devices=5, "):
        devices.split_processor(5)
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    with pytest.raises(RunError, match="hide the GPUs.* logical_devices=2, GPUs=.*GPU:0"):
        devices.split_processor(2)


def test_a_cluster_is_read(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(GOOD))
    assert cluster.describe() == GOOD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError: 'task'"),
        (json.dumps(GOOD | {"task": {"type": "worker", "index": 2}}), "no worker has the index 2"),
        (json.dumps(GOOD | {"task": {"type": "ps", "index": 0}}), "KeyError: 'ps'"),
        (json.dumps(GOOD | {"cluster": {"ps": ["a:1"]}}), "does not train"),
        (json.dumps(GOOD | {"cluster": {"worker": ["a", "b:2"]}}), "worker 'a' is not host:port"),
        (json.dumps(GOOD | {"cluster": {"worker": "a:1"}}), "not host:port"),
        (json.dumps(GOOD | {"cluster": {"worker": ["a:x", "b:1"]}}), "invalid literal"),
    ],
)
def test_what_is_no_cluster_gets_one_sentence(monkeypatch, text, reason):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(RunError, match="TF_CONFIG must be JSON such as.*Received: ") as error:
        cluster.describe()
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_nothing_to_find_workers_by():
    with pytest.raises(RunError, match="needs TF_CONFIG, or a Slurm job step"):
        cluster.describe()


def slurm(monkeypatch, rank, nodes="n[1-2]", node=None):
    monkeypatch.setenv("SLURM_PROCID", str(rank))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NODELIST", nodes)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2(x2)")
    if node:
        monkeypatch.setenv("SLURMD_NODENAME", node)


def test_slurm_tells_where_the_workers_are(monkeypatch):
    slurm(monkeypatch, 2, node="n2")
    config = cluster.describe()
    first = cluster.FIRST_PORT + 77 * 16
    ports = first, first + 1
    assert config["cluster"] == {"worker": [f"n{n}:{p}" for n in (1, 2) for p in ports]}
    assert config["task"] == {"type": "worker", "index": 2}


def test_slurm_outside_of_a_step(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    with pytest.raises(RunError, match="must describe this job step .*STEP_NUM_TASKS"):
        cluster.describe()


def test_nodes_that_slurm_lists_in_another_order(monkeypatch):
    slurm(monkeypatch, 0, nodes="n[9-10]", node="n9")
    with pytest.raises(RunError, match="in the order of their names.*address n10:.* on node n9"):
        cluster.describe()


def test_a_machine_without_a_tpu():
    with pytest.raises(RunError, match="--strategy=tpu needs a TPU.*Received: TPU_NAME=None"):
        devices.make_strategy("tpu")


def test_launched_workers_get_ports_of_their_own():
    configs = launch.configurations(3)
    addresses = configs[0]["cluster"]["worker"]
    assert len(set(addresses)) == 3 and all(a.startswith("localhost:") for a in addresses)
    assert [c["task"]["index"] for c in configs] == [0, 1, 2]
