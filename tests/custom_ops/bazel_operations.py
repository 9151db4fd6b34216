"""Run by Bazel: its library, not another, computes an adder response as the formula says."""

import os
import pathlib
import unittest

import numpy as np
import tensorflow as tf

from pkkd_tf.ops import compiled
from pkkd_tf.ops.geometry import make_geometry
from tests import numpy_adder


class BazelOperations(unittest.TestCase):
    def test_library_is_the_one_of_this_build(self):
        self.assertTrue(compiled.LIBRARY.is_relative_to(os.environ["TEST_SRCDIR"]))
        built = pathlib.Path(os.path.realpath(compiled.LIBRARY))
        self.assertIn("bazel-out", built.parts)

    def test_one_response(self):
        self.assertTrue(compiled.is_available(), compiled.why_unavailable())
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, 9, 8, 8)).astype(np.float32)
        f = rng.normal(size=(3, 3, 4, 12)).astype(np.float32)
        y = compiled.forward(tf.constant(x), tf.constant(f), make_geometry(2, "SAME", 1, 2))
        expected = numpy_adder.forward(x, f, (2, 2), "SAME", (1, 1), 2)
        # float32 sums of 36 terms of one sign
        np.testing.assert_allclose(y, expected, rtol=2e-6)


if __name__ == "__main__":
    unittest.main()
