"""The runs that the method's claim and its open choices rest on, and what was published."""

import dataclasses
from collections.abc import Iterable

# Accuracy in %, one seed each: PKKD's tables (Xu et al., NeurIPS 2020, arXiv 2009.13044).
PUBLISHED = {
    ("cifar10", "resnet20"): {"cnn": 92.93, "plain": 92.02, "pkkd": 92.96},
    ("cifar10", "resnet32"): {"cnn": 93.59, "plain": 93.01, "pkkd": 93.62},
    ("cifar10", "vgg_small"): {"cnn": 94.25, "plain": 93.72, "pkkd": 95.03},
    ("cifar100", "resnet20"): {"cnn": 68.75, "plain": 67.60, "pkkd": 69.93},
    ("cifar100", "resnet32"): {"cnn": 70.46, "plain": 69.17, "pkkd": 72.41},
    ("cifar100", "vgg_small"): {"cnn": 75.96, "plain": 74.58, "pkkd": 76.94},
}
FLAGFILES = {"resnet20": "r20", "resnet32": "r32", "vgg_small": "vgg"}
METHODS = {
    "resnet20": ("cnn", "plain", "kd", "pkkd"),
    "resnet32": ("cnn", "plain", "pkkd"),
    "vgg_small": ("cnn", "plain", "pkkd"),
}
TEACHER = "{teacher}"  # stands for what the row `cnn` of the same seed has trained
# Name: method, flags beside the defaults: each differs from its method in one thing, or in both
# weights of its losses.
CHOICES = {
    "share_0.01": ("pkkd", ["--feature_share=0.01"]),
    "share_0.03": ("pkkd", ["--feature_share=0.03"]),
    "share_0.3": ("pkkd", ["--feature_share=0.3"]),
    "beta_0.003": ("pkkd", ["--beta=0.003"]),
    "beta_0.01": ("pkkd", ["--beta=0.01"]),
    "beta_0.03": ("pkkd", ["--beta=0.03"]),
    "teacher_sign_minus": ("pkkd", ["--teacher_sign=-1"]),
    "no_kernel": ("pkkd", ["--kernel=identity"]),
    "rbf_kernel": ("pkkd", ["--kernel=rbf"]),
    "no_alignment": ("pkkd", ["--nostudent_alignment"]),
    "aligned_teacher": ("pkkd", ["--teacher_side=trained"]),
    "raw_response": ("pkkd", ["--response=raw"]),
    "all_layers": ("pkkd", ["--matched_layers=all"]),
    "alpha_0.5_beta_0.01": ("pkkd", ["--alpha=0.5", "--beta=0.01"]),
    "alpha_2_beta_0.01": ("pkkd", ["--alpha=2", "--beta=0.01"]),
    "fixed_teacher": ("kd", [f"--teacher={TEACHER}"]),
    "alpha_0.5": ("kd", ["--alpha=0.5"]),
    "alpha_2": ("kd", ["--alpha=2"]),
    "temperature_4": ("kd", ["--temperature=4"]),
    "sign_gradient": ("plain", ["--input_gradient=sign"]),
    "l2_anneal_0.5": ("plain", ["--l2_anneal=0.5"]),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A run but for its seed.

    Attributes:
        dataset: `cifar10` or `cifar100`.
        model: a name of `pkkd_tf.models`.
        method: `cnn`, `plain`, `kd` or `pkkd`.
        choice: a name of `CHOICES`; empty: the defaults.
    """

    dataset: str
    model: str
    method: str
    choice: str = ""

    @property
    def name(self) -> str:
        """`resnet20/pkkd`, or `resnet20/pkkd/share_0.03`."""
        return "/".join(part for part in (self.model, self.method, self.choice) if part)

    def flags(self) -> list[str]:
        """Flags of `experiments.cifar`."""
        own = CHOICES[self.choice][1] if self.choice else []
        file = f"flags/{self.dataset}_{FLAGFILES[self.model]}.cfg"
        return [f"--flagfile={file}", f"--method={self.method}", *own]

    @property
    def teacher(self) -> "Row | None":
        """The row whose network teaches this one and is held; None: it learns beside this one."""
        is_held = any(TEACHER in flag for flag in self.flags())
        return Row(self.dataset, self.model, "cnn") if is_held else None

    def published(self) -> float | None:
        """The accuracy that was published, in %."""
        figures = PUBLISHED[self.dataset, self.model]
        return None if self.choice else figures.get(self.method)


def rows(dataset: str) -> list[Row]:
    """Every row of a data set: the published ones, then the choices on ResNet-20."""
    methods = [Row(dataset, model, m) for model, names in METHODS.items() for m in names]
    return methods + [Row(dataset, "resnet20", m, name) for name, (m, _) in CHOICES.items()]


def chosen(dataset: str, names: Iterable[str]) -> list[Row]:
    """The rows of these names, their teachers before them; `published` and `choices` are several.

    Raises:
        ValueError: a name that is none.
    """
    known = rows(dataset)
    sets = {"published": [r for r in known if not r.choice]}
    sets["choices"] = [r for r in known if r.choice]
    by_name = {**sets, **{row.name: [row] for row in known}}
    found: list[Row] = []
    for name in names:
        if name not in by_name:
            raise ValueError(f"A row must be one of {', '.join(by_name)}. Received: {name!r}")
        for row in by_name[name]:
            found += [r for r in (row.teacher, row) if r is not None and r not in found]
    return found
