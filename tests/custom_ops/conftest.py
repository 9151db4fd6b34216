import pytest

from custom_ops import build, build_cuda, compiler
from pkkd_tf.ops import compiled
from tests.custom_ops import native

SOURCES = (".cc", ".h", ".cu", ".cuh")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The kernels without TensorFlow, compiled for this run."""
    return native.Kernels(build.build_kernels(tmp_path_factory.mktemp("kernels") / "kernels.so"))


@pytest.fixture(scope="session")
def operations():
    """The compiled TensorFlow operations, built where they are missing."""
    if not compiled.LIBRARY.exists():
        build.build(quiet=True)
        compiled._load.cache_clear()
    folders = [compiler.KERNELS, build.SHELL]
    folders += [build_cuda.KERNELS] if compiled.has_gpu_kernels() else []
    sources = [s for f in folders for s in f.iterdir() if s.name not in compiler.TEST_SOURCES]
    newest = max(source.stat().st_mtime for source in sources if source.suffix in SOURCES)
    installed = not (compiler.ROOT.parent / "setup.py").exists()  # from a wheel: library and all
    fresh = installed or compiled.LIBRARY.stat().st_mtime > newest
    assert fresh, "older than a source: custom_ops.build it"
    assert compiled.is_available(), compiled.why_unavailable()
    return compiled.load()
