from tests.custom_ops.conftest import operations  # noqa: F401
