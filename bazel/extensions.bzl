"""The repository `local_tensorflow` for MODULE.bazel; Bazel 4 knows no module extensions."""

load("//bazel:tensorflow.bzl", "tensorflow_repository")

def _tensorflow_impl(_module_ctx):
    tensorflow_repository(name = "local_tensorflow")

tensorflow = module_extension(implementation = _tensorflow_impl)
