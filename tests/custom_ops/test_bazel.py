"""Bazel compiles with the flags of custom_ops/compiler.py."""

from custom_ops import compiler


def bazel_flags():
    """custom_ops/flags.bzl, whose assignments read the same in Python."""
    flags = {}
    exec((compiler.ROOT / "flags.bzl").read_text(), flags)
    return flags


def test_same_flags():
    # Bazel's include path has the root of the repository already
    ours = [flag for flag in compiler.FLAGS if not flag.startswith("-I")]
    assert bazel_flags()["COPTS"] == [*ours, *compiler.OPTIMIZED]


def test_same_flags_of_each_instruction_set():
    assert bazel_flags()["INSTRUCTION_SETS"] == compiler.INSTRUCTION_SETS


def test_same_sources_left_out():
    assert bazel_flags()["TEST_SOURCES"] == list(compiler.TEST_SOURCES)
