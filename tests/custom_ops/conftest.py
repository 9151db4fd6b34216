import pathlib

import pytest

from custom_ops import build
from pkkd_tf.ops import compiled
from tests.custom_ops import native


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The kernels without TensorFlow, compiled for this run."""
    return native.Kernels(build.build_kernels(tmp_path_factory.mktemp("kernels") / "kernels.so"))


@pytest.fixture(scope="session")
def operations():
    """The compiled TensorFlow operations, built where they are missing or older than a source."""
    sources = [*build.ROOT.rglob("*.cc"), *build.ROOT.rglob("*.h"), pathlib.Path(build.__file__)]
    newest = max(source.stat().st_mtime for source in sources)
    if not compiled.LIBRARY.exists() or compiled.LIBRARY.stat().st_mtime < newest:
        build.build(quiet=True)
        compiled._load.cache_clear()
    assert compiled.is_available(), compiled.why_unavailable()
    return compiled.load()
