"""Networks from files that anybody may have written."""

import os

import keras

from experiments.errors import RunError


def load(path: str, flag: str) -> keras.Model:
    """Loads the network in a `.keras` file, without the state of its training.

    No code out of the file runs: Keras' safe mode refuses `Lambda` layers and unknown classes.

    Raises:
        RunError: there is no such file, or Keras cannot read it.
    """
    if not os.path.isfile(path):
        raise RunError(f"{flag} must name a .keras file. Received: {flag[2:]}={path}")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of any class: nothing checks a damaged file's values before use
        reason = (str(error).split("Exception encountered: ")[-1].strip().splitlines() or [""])[0]
        raise RunError(
            f"{flag} must be a network that Keras saved whole. "
            f"Received: {flag[2:]}={path}, {type(error).__name__}: {reason}"
        ) from error
