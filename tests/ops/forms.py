"""What may compute the adder response: the paths, of which the stock one has two forms."""

import contextlib
from unittest import mock

from pkkd_tf.ops import compiled, paths

FORMS = ["reference", "fusible", *(["compiled"] if compiled.is_available() else [])]


@contextlib.contextmanager
def use_form(form):
    """A `with` block that computes it so; "fusible" is what XLA gets to see, here without it."""
    fusible = form == "fusible"
    with mock.patch.object(paths, "under_xla", lambda: fusible):
        with paths.use_path("reference" if fusible else form):
            yield
