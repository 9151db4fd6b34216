"""What TensorFlow's profiler recorded: the operations of each device with their own time."""

import contextlib
import dataclasses
import glob
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

HOST = "/host:CPU"
PER_SECOND = 10**12  # picoseconds, the unit of all times here


@dataclasses.dataclass(frozen=True)
class Event:
    """One run of an operation or of one of its GPU kernels.

    Attributes:
        name: str, the operation's name in its graph, such as `student/conv1/Conv2D`.
        kind: str, such as `Conv2D`; for copies the kernel's own name.
        kernel: str, what the recording calls it.
        begin: int, picoseconds.
        end: int.
        own: int, picoseconds without the operations that it called.
    """

    name: str
    kind: str
    kernel: str
    begin: int
    end: int
    own: int


@contextlib.contextmanager
def traced() -> Iterator[list[Any]]:
    """Profiles what runs inside; afterwards the list holds the `XSpace`, as its only element."""
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    found: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, options)
        try:
            yield found
        finally:
            tf.profiler.experimental.stop()
        (path,) = glob.glob(os.path.join(folder, "plugins", "profile", "*", "*.xplane.pb"))
        with open(path, "rb") as file:
            found.append(xplane_pb2.XSpace.FromString(file.read()))


def device_plane(space: Any) -> Any:
    """The plane of the GPU that did most; the host's where there is none."""
    gpus = [plane for plane in space.planes if plane.name.startswith("/device:GPU")]
    host = [plane for plane in space.planes if plane.name == HOST]
    return max(gpus or host, key=lambda plane: sum(len(line.events) for line in plane.lines))


def events(plane: Any) -> list[Event]:
    """The operations of one plane, or their kernels, line by line in order of time."""
    return [event for line in plane.lines for event in _of_line(plane, line)]


def busy(found: list[Event]) -> int:
    """Picoseconds in which at least one of the events runs."""
    total, until = 0, 0
    for event in sorted(found, key=lambda event: event.begin):
        total += max(0, event.end - max(event.begin, until))
        until = max(until, event.end)
    return total


def _of_line(plane: Any, line: Any) -> list[Event]:
    start = 1000 * line.timestamp_ns
    found, stack = [], []
    for event in sorted(line.events, key=lambda e: (e.offset_ps, -e.duration_ps)):
        operation = _operation(plane, event)
        if operation is None:
            continue
        begin, length = start + event.offset_ps, event.duration_ps
        while stack and stack[-1][1] <= begin:
            stack.pop()
        if stack:
            stack[-1][2][0] -= length
        own = [length]
        stack.append((begin, begin + length, own))
        found.append((operation, begin, begin + length, own))
    return [Event(*operation, begin, end, own[0]) for operation, begin, end, own in found]


def _operation(plane: Any, event: Any) -> tuple[str, str, str] | None:
    """Name, kind and kernel of the operation that an event belongs to; None for what is none."""
    text = plane.event_metadata[event.metadata_id].name
    if plane.name == HOST:
        name, colon, kind = text.rpartition(":")
        is_operation = colon and not name.endswith(":") and kind.isidentifier() and "::" not in text
        return (name, kind, text) if is_operation and " " not in text else None
    for stat in event.stats:
        if plane.stat_metadata[stat.metadata_id].name == "tf_op":
            full = stat.str_value or plane.stat_metadata[stat.ref_value].name
            name, _, kind = full.rpartition(":")
            return name, text if text.startswith("Mem") else kind, text
    return text, text, text
