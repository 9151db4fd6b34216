"""TFLite models of one AdderConv2D, written field by field: right ones and damaged ones."""

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema

OPTIONS = {
    "stride_h": 1,
    "stride_w": 1,
    "pad_top": 1,
    "pad_bottom": 1,
    "pad_left": 1,
    "pad_right": 1,
    "dilation_h": 1,
    "dilation_w": 1,
    "groups": 1,
}
FLOAT = schema.TensorType.FLOAT32


def adder_model(x_shape, filters, options=None, scale=None, offset=None, residual_shape=None):
    """A ModelT: x (and residual) are inputs, all else constants. Change it, then `to_bytes`."""
    model = schema.ModelT(version=3, buffers=[schema.BufferT()], description=b"one adder")
    graph = schema.SubGraphT(tensors=[], operators=[])
    model.subgraphs = [graph]
    model.operatorCodes = [
        schema.OperatorCodeT(
            deprecatedBuiltinCode=schema.BuiltinOperator.CUSTOM,
            builtinCode=schema.BuiltinOperator.CUSTOM,
            customCode=b"AdderConv2D",
            version=1,
        )
    ]
    inputs = [_tensor(model, "x", x_shape)]
    for name, values in (("filters", filters), ("scale", scale), ("offset", offset)):
        if values is not None:
            inputs.append(_tensor(model, name, values.shape, values))
    graph.inputs = [0]
    if residual_shape is not None:
        inputs.append(_tensor(model, "residual", residual_shape))
        graph.inputs.append(inputs[-1])
    graph.outputs = [_tensor(model, "y", (1, 1, 1, filters.shape[-1]))]
    operator = schema.OperatorT(opcodeIndex=0, inputs=inputs, outputs=list(graph.outputs))
    set_options(operator, OPTIONS if options is None else options)
    graph.operators = [operator]
    return model


def set_options(operator, options):
    data = options if isinstance(options, bytes) else bytes(flexbuffers.Dumps(options))
    operator.customOptions = np.frombuffer(data, np.uint8)


def to_bytes(model):
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def _tensor(model, name, shape, values=None):
    buffer = 0
    if values is not None:
        data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
        model.buffers.append(schema.BufferT(data=data))
        buffer = len(model.buffers) - 1
    shape = np.array(shape, np.int32)
    tensor = schema.TensorT(shape=shape, type=FLOAT, buffer=buffer, name=name.encode())
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1
