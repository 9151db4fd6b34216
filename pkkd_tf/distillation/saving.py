"""What a `.keras` file of `PKKD` holds beside the weights, and what is exported of it."""

from typing import Any

import keras

from pkkd_tf.distillation.arguments import EXECUTION_OPTIONS, STEP_OPTIONS, UNUSED
from pkkd_tf.distillation.attributes import WithAttributes
from pkkd_tf.distillation.feature_matching import FeatureMatching


class StoredModel(WithAttributes):
    """The part of `PKKD` that is written and read."""

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Exports the student for inference; arguments as in `keras.Model.export`.

        Example:
            >>> with pkkd_tf.ops.use_path("reference"):    # loads without this package then
            ...     model.export("served")
        """
        self.student.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, student and teacher serialised with them."""
        config: dict[str, Any] = {"name": self.name, "matching": vars(self.matching).copy()}
        config["dtype"] = keras.dtype_policies.serialize(self.dtype_policy)
        for name in ("method", "alpha", "temperature", "beta", "feature_share", "teacher_mode"):
            config[name] = getattr(self, name)
        config["monitor_every"] = self.monitor_every
        config["matched_layers"] = self.matched_layers or None
        for name in ("student", "teacher"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Rebuilds the model from `get_config`; what the method makes no use of is left out."""
        config = {k: v for k, v in config.items() if k not in UNUSED[config["method"]]}
        for name in ("student", "teacher"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        if "matching" in config:
            config["matching"] = FeatureMatching(**config["matching"])
        return cls(**config)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns both optimizers and how steps are executed, serialised; None if not compiled."""
        if not self.compiled:
            return None
        optimizers = {"optimizer": self.optimizer, "teacher_optimizer": self.teacher_optimizer}
        config = {k: keras.saving.serialize_keras_object(v) for k, v in optimizers.items()}
        execution = super().get_compile_config()
        config |= {name: getattr(self, name) for name in STEP_OPTIONS}
        return {**config, **{name: execution[name] for name in EXECUTION_OPTIONS}}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with both optimizers, so that loading brings back their state."""
        config = {k: keras.saving.deserialize_keras_object(v) for k, v in config.items()}
        self.compile(**config, auto_scale_loss=False)  # optimizers come back as they were wrapped
