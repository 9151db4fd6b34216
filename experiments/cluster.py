"""Where the other workers are: TF_CONFIG, or what Slurm tells a job step."""

import json
import os

import tensorflow as tf

from experiments.errors import RunError

EXAMPLE = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
FIRST_PORT, PORTS = 20000, 10000
MANY = 1024  # tasks on one node, at most


def describe() -> dict:
    """The cluster and this process's place in it, as TF_CONFIG has it.

    Where TF_CONFIG is not set and SLURM_PROCID is, TF_CONFIG is set to what Slurm's variables
    say: one worker a task of the job step, on ports that follow from the job's number.

    Raises:
        RunError: neither is there, or it makes no sense.
    """
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ["TF_CONFIG"] = json.dumps(_from_slurm())
    text = os.environ.get("TF_CONFIG")
    if text is None:
        raise RunError(
            "--strategy=multi_worker needs TF_CONFIG, or a Slurm job step, or "
            "`python -m experiments.launch`. Received: no TF_CONFIG and no SLURM_PROCID"
        )
    try:
        config = json.loads(text)
        _check(config)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RunError(
            f"TF_CONFIG must be JSON such as {EXAMPLE}. Received: {reason}, in TF_CONFIG={text!r}"
        ) from error
    return config


def check_alone(strategy: str) -> None:
    """Raises `RunError` where TF_CONFIG names other workers: each would train and write alone."""
    if "TF_CONFIG" not in os.environ:
        return
    workers = sum(len(addresses) for addresses in describe()["cluster"].values())
    if workers > 1:
        raise RunError(
            "Several workers need --strategy=multi_worker. "
            f"Received: strategy={strategy}, {workers} workers in TF_CONFIG"
        )


def _check(config: dict) -> None:
    """Raises ValueError, TypeError, KeyError or AttributeError for what is not a cluster."""
    cluster, task = config["cluster"], config["task"]
    unknown = sorted(set(cluster) - {"chief", "worker"})
    if unknown:
        raise ValueError(f"a job that does not train: {unknown}")
    for job, addresses in cluster.items():
        for address in addresses:
            host, _, port = address.rpartition(":")
            if isinstance(addresses, str) or not host or not 0 < int(port) < 65536:
                raise ValueError(f"{job} {address!r} is not host:port")
    place = task["type"], task["index"]
    if not isinstance(place[1], int) or not 0 <= place[1] < len(cluster[place[0]]):
        raise ValueError(f"no {place[0]} has the index {place[1]!r}")


def _from_slurm() -> dict:
    """One worker a task of this job step."""
    job = int(os.environ.get("SLURM_JOB_ID", 0))
    try:
        # Not asked for GPUs: it fails on nodes without, and TensorFlow sees what the task has.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=FIRST_PORT + job * 16 % PORTS,
            gpus_per_node=MANY,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        cluster = resolver.cluster_spec().as_dict()
    except (RuntimeError, ValueError, TypeError) as error:
        names = ("PROCID", "STEP_NUM_TASKS", "STEP_NODELIST", "STEP_TASKS_PER_NODE")
        found = {f"SLURM_{name}": os.environ.get(f"SLURM_{name}") for name in names}
        raise RunError(
            "Slurm's variables must describe this job step (srun sets them). "
            f"Received: {error}, {found}"
        ) from error
    kind, index = resolver.get_task_info()
    _check_node(cluster[kind][index])
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


def _check_node(address: str) -> None:
    """The resolver counts nodes in the order of their names, Slurm in the order of its list."""
    node = os.environ.get("SLURMD_NODENAME")
    if node and address.rpartition(":")[0] != node:
        raise RunError(
            "Slurm's nodes must be listed in the order of their names; otherwise set TF_CONFIG. "
            f"Received: this task's address {address} on node {node}, "
            f"SLURM_STEP_NODELIST={os.environ.get('SLURM_STEP_NODELIST')}"
        )
