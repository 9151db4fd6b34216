"""Random damage to models of one AdderConv2D: `python -m tests.custom_ops.delegate_fuzz LIB N`.

Prints how many models were refused and how many still ran; must end without a crash.
"""

import random
import sys

import numpy as np
from flatbuffers import flexbuffers

from tests.adder_models import OPTIONS, adder_model, int8_model, set_options, to_bytes
from tests.delegate_library import litert

EXTREMES = (-(2**63), -1, 0, 1, 2, 3, 7, 255, 65535, 65536, 2**31 - 1, 2**31, 2**62)
SIZES = (0, 1, 2, 3, 5, 64)


def run(library, count, seed=0):
    """Number of models refused, and number that ran."""
    chance = random.Random(seed)
    delegate = litert.load_delegate(str(library))
    ran = sum(_runs(_damaged(chance), delegate) for _ in range(count))
    return count - ran, ran


def _runs(model, delegate):
    try:
        made = litert.Interpreter(
            model_content=to_bytes(model), num_threads=1, experimental_delegates=[delegate]
        )
        made.allocate_tensors()
        if max(np.prod(d["shape"]) for d in made.get_tensor_details()) > 10**6:
            return False
        made.invoke()
    except (RuntimeError, ValueError):
        return False
    return True


def _damaged(chance):
    model, options = (_int8 if chance.random() < 0.5 else _float32)(chance)
    chance.choice((_options, _bytes, _shape, _inputs, _type, _numbers))(model, options, chance)
    return model


def _int8(chance):
    filters = np.full((3, 3, 2, 4), 5, np.int8)
    constants = np.full(4, -(2**20), np.int32), np.full(4, 2**26, np.int64)
    options = OPTIONS | {"zero": 3, "shift": 20, "low": -100, "high": 100}
    extra = {"computed": chance.choice(((), (), ("filters",), ("multiplier", "bias")))}
    if chance.random() < 0.3:
        options |= {"residual": 1, "residual_multiplier": 77}
        extra["residual_shape"] = (1, 5, 5, 4)
    return int8_model((1, 5, 5, 2), filters, *constants, options, **extra), options


def _float32(chance):
    filters = np.ones((3, 3, 2, 4), np.float32)
    extra = {}
    options = dict(OPTIONS)
    if chance.random() < 0.5:
        options["affine"] = 1
        extra = {"scale": np.ones(4, np.float32), "offset": np.ones(4, np.float32)}
    if chance.random() < 0.3:
        options["residual"] = 1
        extra["residual_shape"] = (1, 5, 5, 4)
    return adder_model((1, 5, 5, 2), filters, options, **extra), options


def _options(model, options, chance):
    name = chance.choice(sorted(options))
    if chance.random() < 0.2:
        del options[name]
    else:
        options[name] = chance.choice(EXTREMES)
    set_options(model.subgraphs[0].operators[0], options)


def _bytes(model, options, chance):
    data = bytearray(flexbuffers.Dumps(options))
    for _ in range(chance.randint(1, 4)):
        data[-chance.randint(1, min(len(data), 60))] = chance.randrange(256)
    if chance.random() < 0.3:
        data = data[chance.randint(0, len(data)) :]
    set_options(model.subgraphs[0].operators[0], bytes(data))


def _shape(model, options, chance):
    tensor = chance.choice([t for t in model.subgraphs[0].tensors if t.buffer == 0])
    shape = list(tensor.shape)
    shape[chance.randrange(len(shape))] = chance.choice(SIZES)
    if chance.random() < 0.2:
        shape = shape[1:]
    tensor.shape = np.array(shape, np.int32)


def _inputs(model, options, chance):
    inputs = model.subgraphs[0].operators[0].inputs
    if chance.random() < 0.3:
        del inputs[chance.randrange(len(inputs))]
    else:
        inputs[chance.randrange(len(inputs))] = chance.randint(
            -1, len(model.subgraphs[0].tensors) - 1
        )


def _type(model, options, chance):
    tensors = [t for t in model.subgraphs[0].tensors if t.buffer == 0]
    chance.choice(tensors).type = chance.choice((0, 1, 2, 3, 4, 9))


def _numbers(model, options, chance):
    """Other constants: too few of them, or any bytes."""
    constants = [t for t in model.subgraphs[0].tensors if t.buffer != 0]
    if not constants:
        return
    tensor = chance.choice(constants)
    data = bytearray(bytes(model.buffers[tensor.buffer].data))
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    else:
        data = bytearray(chance.randrange(256) for _ in data)
    model.buffers[tensor.buffer].data = np.frombuffer(bytes(data), np.uint8)


if __name__ == "__main__":
    print("refused {}, ran {}".format(*run(sys.argv[1], int(sys.argv[2]))))
