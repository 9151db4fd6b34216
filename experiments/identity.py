"""Which flags make a run what it is, and which may differ between its parts."""

# What may differ between the parts of one run.
FREE = (
    "output",
    "resume",
    "requeue",
    "checkpoint_seconds",
    "verbose",
    "tensorboard",
    "data_dir",
    "data_placement",
    "strategy",
    "logical_devices",
    "compare_plain",
    "jit_compile",
    "autoclustering",
    "recompute",
    "on_nan",
    "steps_per_execution",
)
# Of these, what may change the result: replicas' statistics, steps left out.
ALTERING = ("strategy", "logical_devices", "on_nan")
# At these values a flag changes nothing: so runs that were begun before it was there go on.
NEUTRAL = {"accumulate_steps": 1, "sync_batch_norm": False, "l2_anneal": 0.0, "student": None}
