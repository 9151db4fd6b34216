"""A TFLite model as objects: who makes a tensor, who reads it, what is constant."""

from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python import schema_util
from tensorflow.lite.tools import flatbuffer_utils

ALIGNMENT = 16  # bytes, what TFLite wants of constants
_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
}
_NUMBERS = {np.dtype(dtype): number for number, dtype in _TYPES.items()}


class Graph:
    """The first subgraph of a model, open to changes.

    Args:
        data: the bytes of a `.tflite` file.
    """

    def __init__(self, data: bytes):
        self.model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
        self.subgraph = self.model.subgraphs[0]

    @property
    def operators(self) -> list[Any]:
        """The operators, in the order in which they run."""
        return self.subgraph.operators

    def name(self, operator: Any) -> str:
        """`"ADD"`, or the name of a custom operator."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        if code.customCode:
            return code.customCode.decode()
        number = schema_util.get_builtin_code_from_operator_code(code)
        names = vars(schema.BuiltinOperator).items()
        return next(name for name, value in names if value == number)

    def named(self, name: str) -> list[Any]:
        """The operators of a name."""
        return [operator for operator in self.operators if self.name(operator) == name]

    def producer(self, tensor: int) -> Any | None:
        """The operator that makes a tensor; None for inputs and constants."""
        return next((o for o in self.operators if tensor in o.outputs), None)

    def consumers(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [o for o in self.operators if tensor in o.inputs]

    def is_output(self, tensor: int) -> bool:
        """Whether the graph hands out a tensor."""
        return tensor in self.subgraph.outputs

    def outputs(self) -> dict[str, int]:
        """The tensors that the graph hands out, by their names in the signature if there is one."""
        for signature in self.model.signatureDefs or []:
            return {entry.name.decode(): int(entry.tensorIndex) for entry in signature.outputs}
        return {self.tensor_name(t): int(t) for t in self.subgraph.outputs}

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape; -1 where it is not known."""
        entry = self.subgraph.tensors[tensor]
        shape = entry.shape if entry.shapeSignature is None else entry.shapeSignature
        return tuple(int(size) for size in ([] if shape is None else shape))

    def constant(self, tensor: int) -> np.ndarray | None:
        """The numbers of a constant; None for tensors that are computed, and for other types."""
        entry = self.subgraph.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if data is None or not len(data) or entry.type not in _TYPES:
            return None
        return np.asarray(data, np.uint8).view(_TYPES[entry.type]).reshape(self.shape(tensor))

    def dtype(self, tensor: int) -> np.dtype | None:
        """The type of the numbers; None for one that is not handled here."""
        number = self.subgraph.tensors[tensor].type
        return np.dtype(_TYPES[number]) if number in _TYPES else None

    def tensor_name(self, tensor: int) -> str:
        """The name, which is for people."""
        return self.subgraph.tensors[tensor].name.decode()

    def add_constant(self, values: np.ndarray, name: str) -> int:
        """Adds a constant of the type of `values`; returns the number of its tensor."""
        values = np.ascontiguousarray(values)
        buffer = schema.BufferT(data=values.reshape(-1).view(np.uint8))
        self.model.buffers.append(buffer)
        number = self.add_tensor(values.shape, values.dtype, name)
        self.subgraph.tensors[number].buffer = len(self.model.buffers) - 1
        return number

    def add_tensor(self, shape: Any, dtype: Any, name: str) -> int:
        """Adds a tensor that is computed; -1 in the shape is a size not known."""
        known = np.array([max(size, 1) for size in shape], np.int32)
        tensor = schema.TensorT(
            shape=known,
            shapeSignature=np.array(shape, np.int32) if -1 in shape else None,
            type=_NUMBERS[np.dtype(dtype)],
            name=name.encode(),
        )
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def set_type(self, tensor: int, dtype: Any) -> None:
        """Changes the type of a tensor that is computed."""
        self.subgraph.tensors[tensor].type = _NUMBERS[np.dtype(dtype)]

    def set_scale(self, tensor: int, scale: Any, zero: Any, axis: int = 0) -> None:
        """Says what a tensor's integers mean: (q - zero) * scale, a value or one along `axis`."""
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
        self.subgraph.tensors[tensor].quantization = schema.QuantizationParametersT(
            scale=scales, zeroPoint=np.array(zeros), quantizedDimension=axis
        )

    def scale(self, tensor: int) -> tuple[list[float], list[int]]:
        """What `set_scale` said of a tensor; nothing where it is not quantized."""
        found = self.subgraph.tensors[tensor].quantization
        if found is None or found.scale is None:
            return [], []
        return [float(s) for s in found.scale], [int(z) for z in found.zeroPoint]

    def operator_code(self, name: str, version: int) -> int:
        """The number of a builtin operator's code, added if the model has none."""
        wanted = getattr(schema.BuiltinOperator, name)
        for number, code in enumerate(self.model.operatorCodes):
            same = schema_util.get_builtin_code_from_operator_code(code) == wanted
            if same and code.version == version:
                return number
        code = schema.OperatorCodeT(
            deprecatedBuiltinCode=min(wanted, 127), builtinCode=wanted, version=version
        )
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def drop_unread(self) -> None:
        """Removes operators whose results nobody reads, then tensors and buffers nobody uses."""
        while unread := [o for o in self.operators if not self._is_read(o)]:
            for operator in unread:
                self.operators.remove(operator)
        self._keep_tensors(sorted({int(t) for group in self._tensor_lists() for t in group} - {-1}))
        self._keep_buffers()

    def to_bytes(self) -> bytes:
        """The `.tflite` file, constants aligned as TFLite wants them."""
        builder = _AligningBuilder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _is_read(self, operator: Any) -> bool:
        return any(self.is_output(t) or self.consumers(t) for t in operator.outputs)

    def _tensor_lists(self) -> list[Any]:
        groups = [self.subgraph.inputs, self.subgraph.outputs]
        for operator in self.operators:
            groups += [operator.inputs, operator.outputs]
            groups += [] if operator.intermediates is None else [operator.intermediates]
        return groups

    def _keep_tensors(self, kept: list[int]) -> None:
        number = {-1: -1} | {old: new for new, old in enumerate(kept)}

        def renumbered(tensors: Any) -> Any:
            return None if tensors is None else [number[int(t)] for t in tensors]

        self.subgraph.tensors = [self.subgraph.tensors[t] for t in kept]
        self.subgraph.inputs = renumbered(self.subgraph.inputs)
        self.subgraph.outputs = renumbered(self.subgraph.outputs)
        for operator in self.operators:
            operator.inputs = renumbered(operator.inputs)
            operator.outputs = renumbered(operator.outputs)
            operator.intermediates = renumbered(operator.intermediates)
        for signature in self.model.signatureDefs or []:
            for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
                entry.tensorIndex = number[entry.tensorIndex]

    def _keep_buffers(self) -> None:
        tensors = [t for subgraph in self.model.subgraphs for t in subgraph.tensors]
        metadata = self.model.metadata or []
        kept = sorted({0, *(t.buffer for t in tensors), *(m.buffer for m in metadata)})
        number = {old: new for new, old in enumerate(kept)}
        self.model.buffers = [self.model.buffers[b] for b in kept]
        for entry in [*tensors, *metadata]:
            entry.buffer = number[entry.buffer]
        self.model.metadataBuffer = None  # an older form of `metadata`


def get_options(operator: Any) -> dict[str, int]:
    """The options of a custom operator."""
    return flexbuffers.Loads(bytes(bytearray(operator.customOptions)))


def set_options(operator: Any, options: dict[str, int]) -> None:
    """Replaces the options of a custom operator."""
    operator.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(options)), np.uint8)


class _AligningBuilder(flatbuffers.Builder):
    """Aligns vectors of bytes, which is what TFLite's constants are."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803, D102
        return super().StartVector(
            elemSize, numElems, ALIGNMENT if elemSize == 1 and numElems else alignment
        )
