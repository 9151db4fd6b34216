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
    constants = {"filters": filters, "scale": scale, "offset": offset}
    inputs = {name: _float32(values) for name, values in constants.items() if values is not None}
    inputs = {"x": (FLOAT, x_shape)} | inputs
    if residual_shape is not None:
        inputs["residual"] = (FLOAT, residual_shape)
    output = (FLOAT, (1, 1, 1, filters.shape[-1]))
    return operator_model(inputs, output, OPTIONS if options is None else options)


def int8_model(x_shape, filters, multiplier, bias, options, residual_shape=None, computed=()):
    """The same of int8; constants named in `computed` are inputs too, after x."""
    constants = {"filters": filters, "multiplier": multiplier, "bias": bias}
    types = schema.TensorType
    numbers = {"filters": types.INT8, "multiplier": types.INT32, "bias": types.INT64}
    inputs = {"x": (types.INT8, x_shape)}
    for name, values in constants.items():
        constant = None if name in computed else values
        inputs[name] = (numbers[name], values.shape, constant)
    if residual_shape is not None:
        inputs["residual"] = (types.INT8, residual_shape)
    model = operator_model(inputs, (types.INT8, (1, 1, 1, filters.shape[-1])), options)
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == types.INT8:
            tensor.quantization = schema.QuantizationParametersT(
                scale=np.array([0.5], np.float32), zeroPoint=np.array([3], np.int64)
            )
    return model


def operator_model(inputs, output, options):
    """One AdderConv2D: name -> (type, shape) of an input of the graph, or with the constant."""
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
    numbers = [_tensor(model, name, *tensor) for name, tensor in inputs.items()]
    graph.inputs = [n for n in numbers if graph.tensors[n].buffer == 0]
    graph.outputs = [_tensor(model, "y", *output)]
    operator = schema.OperatorT(opcodeIndex=0, inputs=numbers, outputs=list(graph.outputs))
    set_options(operator, options)
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


def _float32(values):
    return FLOAT, values.shape, np.asarray(values, np.float32)


def _tensor(model, name, type, shape, values=None):
    buffer = 0
    if values is not None:
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        model.buffers.append(schema.BufferT(data=data))
        buffer = len(model.buffers) - 1
    shape = np.array(shape, np.int32)
    tensor = schema.TensorT(shape=shape, type=type, buffer=buffer, name=name.encode())
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1
