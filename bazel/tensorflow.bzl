"""The TensorFlow of an installed Python as the repository `local_tensorflow`.

The interpreter is that of the environment variable PYTHON_BIN_PATH, else `python3` of the PATH.
"""

_QUESTION = """
import tensorflow as tf
print(tf.__version__, tf.sysconfig.get_include(), tf.sysconfig.get_lib(), sep="\\n")
"""

_BUILD = """
load("@rules_cc//cc:defs.bzl", "cc_import", "cc_library")

cc_import(
    name = "framework",
    shared_library = "libtensorflow_framework.so.2",
    visibility = ["//visibility:public"],
)

cc_library(
    name = "headers",
    hdrs = glob(["include/**"], exclude = ["include/external/**", "include/third_party/gpus/**"]),
    defines = ["_GLIBCXX_USE_CXX11_ABI=1", "EIGEN_MAX_ALIGN_BYTES=64"],
    includes = ["include"],
    visibility = ["//visibility:public"],
)
"""

def _tensorflow_repository_impl(repository_ctx):
    python = repository_ctx.os.environ.get("PYTHON_BIN_PATH", "") or repository_ctx.which("python3")
    answer = repository_ctx.execute([python, "-c", _QUESTION])
    if answer.return_code != 0:
        fail("The operations are compiled against an installed TensorFlow. " +
             "Received: PYTHON_BIN_PATH={}, {}".format(python, answer.stderr.strip().split("\n")[-1]))
    version, include, lib = answer.stdout.strip().split("\n")
    repository_ctx.symlink(include, "include")
    repository_ctx.symlink(lib + "/libtensorflow_framework.so.2", "libtensorflow_framework.so.2")
    repository_ctx.file("BUILD", _BUILD)
    repository_ctx.file("version.bzl", 'VERSION = "{}"\n'.format(version))

tensorflow_repository = repository_rule(
    implementation = _tensorflow_repository_impl,
    doc = "Headers, framework library and version of the installed TensorFlow.",
    environ = ["PATH", "PYTHON_BIN_PATH"],
    local = True,
)
