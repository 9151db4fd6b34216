"""`keras.Model.fit` that looks at its arguments first."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def warned(
    fit: Callable[..., Any], *warners: Callable[[dict[str, Any]], None]
) -> Callable[..., Any]:
    """A method `fit` that shows its arguments to functions that may warn.

    Args:
        fit: the method.
        *warners: are given all arguments by name, `self` and defaults included; their warnings'
            `stacklevel` for the caller is 3.

    Returns:
        The method.
    """
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def fit_with_warnings(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        for warn in warners:
            warn(given.arguments)
        return fit(*args, **kwargs)

    return fit_with_warnings
