"""What of a traced function a GPU would not do: told from the registered kernels, without a GPU.

TensorFlow lists the kernels of every operation, GPU kernels too where the build has them (the
`tensorflow` wheel has, `tensorflow-cpu` has not), and which inputs and outputs each wants in the
host's memory. An operation without a GPU kernel for its types runs on the host, silently; a tensor
that leaves the device for the host makes the host wait for what is computed.

    found = analyse(tf.function(step).get_concrete_function(spec))
    found.on_host       Counter({'GatherV2': 1})
    found.to_host       [('student/conv', 'If')]
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import kernels
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

HOST, DEVICE, CONSTANT = "host", "device", "constant"
CHOICES = ("If", "StatelessIf", "Case", "StatelessCase")
HANDLES = (tf.resource, tf.variant)


@dataclasses.dataclass
class Placement:
    """How a graph would be spread over host and GPU.

    Attributes:
        operations: int, all that are not constant.
        on_host: Counter of kinds of operations that have no GPU kernel for their types.
        to_host: pairs (producer, consumer) of names between which a tensor leaves the GPU.
    """

    operations: int = 0
    on_host: Counter = dataclasses.field(default_factory=Counter)
    to_host: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def has_gpu_kernels() -> bool:
    """Whether this build of TensorFlow knows GPU kernels."""
    return any(k.device_type == "GPU" for k in _kernels("MatMul"))


def analyse(function: Any) -> Placement:
    """The placement of a concrete function whose arguments lie on the host.

    What it captures, other than variables, lies on the device; variables do, of course.
    """
    placement, graph = Placement(), function.graph
    captured = {id(internal) for _, internal in graph.captures}
    memory = [
        DEVICE if id(x) in captured and x.dtype not in HANDLES else HOST for x in graph.inputs
    ]
    _walk(graph, memory, placement)
    return placement


def _walk(graph: Any, arguments: Sequence[str], placement: Placement) -> list[str]:
    """Places every operation of `graph`; returns where its outputs lie."""
    memory = dict(zip((x.ref() for x in graph.inputs), arguments))
    for operation in graph.get_operations():
        if operation.type == "Placeholder":
            continue
        inputs = [memory[x.ref()] for x in operation.inputs]
        outputs = _place(operation, inputs, graph, placement)
        memory.update(zip((x.ref() for x in operation.outputs), outputs))
    return [memory[x.ref()] for x in graph.outputs]


def _place(operation: Any, inputs: list[str], graph: Any, placement: Placement) -> Sequence[str]:
    """Where the outputs of one operation lie, given where its inputs do."""
    if operation.type == "Const" or _folds(operation, inputs):
        return [CONSTANT] * len(operation.outputs)
    bodies = _bodies(operation, graph)
    if bodies:
        return _call(operation, inputs, bodies, placement)
    placement.operations += 1
    kernel = None if "CPU" in operation.device else _kernel(operation)
    if kernel is None:
        placement.on_host[operation.type] += 1
    wanted, given = _host_arguments(operation, kernel)
    for tensor, where, on_host in zip(operation.inputs, inputs, wanted):
        if where == DEVICE and on_host:
            placement.to_host.append((tensor.op.name, operation.name))
    return [HOST if on_host else DEVICE for on_host in given]


def _call(
    operation: Any, inputs: list[str], bodies: list[Any], placement: Placement
) -> Sequence[str]:
    """Walks what a call, a branch or a loop runs; its first input chooses where that is one."""
    chooses = operation.type in CHOICES
    if chooses and inputs[0] == DEVICE:
        placement.to_host.append((operation.inputs[0].op.name, operation.name))
    results = [_walk(body, inputs[chooses:], placement) for body in bodies]
    own = [r for r in results if len(r) == len(operation.outputs)]
    return [DEVICE if DEVICE in places else HOST for places in zip(*own)]


def _folds(operation: Any, inputs: list[str]) -> bool:
    """Whether Grappler computes it once, before the function runs."""
    stateless = not operation.op_def.is_stateful
    return bool(inputs) and stateless and set(inputs) == {CONSTANT}


def _bodies(operation: Any, graph: Any) -> list[Any]:
    """The functions that a call, a branch or a loop may run, as graphs."""
    attributes = operation.node_def.attr.values()
    names = [a.func.name for a in attributes if a.HasField("func")]
    names += [f.name for a in attributes for f in a.list.func]
    if not names:
        return []
    found = [graph._get_function(name).cached_definition for name in names]
    with graph.as_default():
        return [function_def_to_graph(f, include_library_functions=True) for f in found]


@functools.cache
def _kernels(kind: str) -> list[Any]:
    """The registered GPU kernels of a kind of operation, then those of any device."""
    found = kernels.get_registered_kernels_for_op(kind).kernel
    return [k for device in ("GPU", "DEFAULT") for k in found if k.device_type == device]


def _kernel(operation: Any) -> Any:
    """The GPU kernel of an operation with these types; None if there is none."""
    return next((k for k in _kernels(operation.type) if _fits(operation, k)), None)


def _fits(operation: Any, kernel: Any) -> bool:
    for constraint in kernel.constraint:
        value = operation.node_def.attr[constraint.name]
        types = list(value.list.type) or [value.type]
        if not set(types) <= set(constraint.allowed_values.list.type):
            return False
    return True


def _host_arguments(operation: Any, kernel: Any) -> tuple[list[bool], list[bool]]:
    """For each input and output whether it lies in the host's memory."""
    on_host = None if kernel is None else set(kernel.host_memory_arg)

    def of(arguments: Any) -> list[bool]:
        found: list[bool] = []
        for argument in arguments:
            count = 1
            if argument.number_attr:
                count = operation.node_def.attr[argument.number_attr].i
            elif argument.type_list_attr:
                count = len(operation.node_def.attr[argument.type_list_attr].list.type)
            found += [on_host is None or argument.name in on_host] * count
        return found

    return of(operation.op_def.input_arg), of(operation.op_def.output_arg)
