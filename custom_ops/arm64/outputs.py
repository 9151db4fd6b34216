"""Runs an int8 network on random images: outputs.py LIBRARY FILE.tflite OUTPUT THREADS."""

import platform
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

IMAGES = 16


def main(library: str, file: str, output: str, threads: str) -> None:
    """Writes the outputs as bytes."""
    net = Interpreter(
        file, experimental_delegates=[load_delegate(library)], num_threads=int(threads)
    )
    net.allocate_tensors()
    (x,), (y,) = net.get_input_details(), net.get_output_details()
    rng = np.random.default_rng(0)
    with open(output, "wb") as stream:
        for _ in range(IMAGES):
            net.set_tensor(x["index"], rng.integers(-128, 128, x["shape"]).astype(np.int8))
            net.invoke()
            stream.write(net.get_tensor(y["index"]).tobytes())
    print(f"{platform.machine()}: {IMAGES} images, threads: {threads}")


if __name__ == "__main__":
    main(*sys.argv[1:])
