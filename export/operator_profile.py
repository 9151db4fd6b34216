"""Times every operator of a `.tflite` model by itself, where TFLite's own tool is not at hand.

The interpreter's profiler cannot be reached from Python. So each operator becomes a model of its
own, is given the numbers that reach it in the whole model, and the models run in turns.
"""

import copy
import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.tflite.graph import Graph
from export.tflite.interpreters import Network

Values = dict[int, np.ndarray]


@dataclasses.dataclass(frozen=True)
class OperatorTime:
    """What one operator took by itself, in microseconds.

    Attributes:
        index: its place in the file.
        type: what the file calls it.
        output: name of the tensor that it writes.
        runs: every run.
    """

    index: int
    type: str
    output: str
    runs: np.ndarray


def profile(
    data: bytes,
    images: np.ndarray,
    delegate: str | os.PathLike | None = None,
    num_threads: int = 1,
    num_runs: int = 50,
    options: dict[str, str] | None = None,
) -> tuple[list[OperatorTime], np.ndarray]:
    """Times every operator alone and the whole model, in turns.

    Args:
        data: bytes of a `.tflite` file.
        images: input of the model, in its type.
        delegate: library of an external delegate, or None.
        num_threads: threads of each interpreter.
        num_runs: runs that count, after one that does not.
        options: of the delegate.

    Returns:
        A list of `OperatorTime`, in the order in which they run, and the whole model's runs.

    Raises:
        ExportError: as `export.tflite.Network`.

    Example:
        >>> operators, whole = profile(data, images)
        >>> sum(np.median(o.runs) for o in operators) / np.median(whole)
        1.11

    Limits: starting an interpreter costs half a microsecond to one, which every operator bears
    here and the whole model once: what takes less than that cannot be told.
    """
    arguments = (delegate, num_threads, options)
    whole = Network(data, *arguments)
    whole.set_input(images)
    values = _values(data, images, arguments)
    graph = Graph(data)
    networks = [whole, *(_alone(graph, o, values, arguments) for o in graph.operators)]
    runs = np.array([[_time(network) for network in networks] for _ in range(num_runs + 1)])[1:]
    operators = [
        OperatorTime(i, graph.name(o), graph.tensor_name(o.outputs[0]), runs[:, i + 1])
        for i, o in enumerate(graph.operators)
    ]
    return operators, runs[:, 0]


def text(operators: Sequence[OperatorTime], whole: np.ndarray) -> str:
    """A line an operator, then a line a type, then both sums; medians and minima in us.

    Args:
        operators: of `profile`.
        whole: the whole model's runs.
    """
    medians = {o.index: float(np.median(o.runs)) for o in operators}
    total = sum(medians.values()) or 1.0
    lines = ["Operator-wise profiling, each operator by itself:"]
    lines.append("[node] [node type] [median us] [min us] [%] [output]")
    lines += [
        f"{o.index} {o.type} {medians[o.index]:.1f} {o.runs.min():.1f} "
        f"{100 * medians[o.index] / total:.1f} {o.output}"
        for o in operators
    ]
    lines += ["Summary by node type:", "[node type] [count] [sum of medians us] [%]"]
    by_type: dict[str, list[float]] = {}
    for operator in operators:
        by_type.setdefault(operator.type, []).append(medians[operator.index])
    for name, times in sorted(by_type.items(), key=lambda entry: -sum(entry[1])):
        lines.append(f"{name} {len(times)} {sum(times):.1f} {100 * sum(times) / total:.1f}")
    lines.append(f"Sum of the medians: {total:.1f} us; whole model: {np.median(whole):.1f} us")
    return "\n".join(lines)


def _values(data: bytes, images: np.ndarray, arguments: Sequence[Any]) -> Values:
    """What every computed tensor holds for `images`, integers of shapes too."""
    graph = Graph(data)
    inputs = [int(t) for t in graph.subgraph.inputs]
    computed = [int(t) for o in graph.operators for t in o.outputs]
    graph.subgraph.outputs = computed
    graph.model.signatureDefs = None
    network = Network(graph.to_bytes(), *arguments)
    network.set_input(images)
    network.invoke()
    return {t: network.interpreter.get_tensor(t) for t in [*inputs, *computed]}


def _alone(graph: Graph, operator: Any, values: Values, arguments: Sequence[Any]) -> Network:
    """One operator as a model, ready to run on the numbers of its inputs."""
    given = list(dict.fromkeys(int(t) for t in operator.inputs if int(t) in values))
    graph = _part(graph, operator, given)
    network = Network(graph.to_bytes(), *arguments)
    details = network.interpreter.get_input_details()
    for detail, tensor in zip(details, given, strict=True):
        network.interpreter.resize_tensor_input(detail["index"], values[tensor].shape)
    network.interpreter.allocate_tensors()
    for detail, tensor in zip(details, given, strict=True):
        network.interpreter.set_tensor(detail["index"], values[tensor])
    return network


def _part(graph: Graph, operator: Any, given: list[int]) -> Graph:
    """A graph of one operator, which shares the constants and changes nothing of `graph`."""
    part = copy.copy(graph)
    part.model, part.subgraph = copy.copy(graph.model), copy.copy(graph.subgraph)
    part.model.subgraphs = [part.subgraph]
    part.model.signatureDefs = part.model.metadata = None
    part.subgraph.tensors = [copy.copy(tensor) for tensor in graph.subgraph.tensors]
    part.subgraph.operators = [copy.copy(operator)]
    part.subgraph.inputs, part.subgraph.outputs = given, list(operator.outputs)
    part.drop_unread()
    return part


def _time(network: Network) -> float:
    start = time.perf_counter_ns()
    network.invoke()
    return (time.perf_counter_ns() - start) / 1e3
