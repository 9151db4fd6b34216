"""The method, line by line: `python docs/method.py` prints the tables of method.md.

Equations with the code that computes them and the tests that hold them to it; published figures
beside those that this project counted, computed or measured.
"""

import dataclasses
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
ADDERNET = "AdderNet, arXiv 1912.13200"
PKKD = "PKKD, arXiv 2009.13044"


@dataclasses.dataclass(frozen=True)
class Equation:
    """A line of the method.

    Attributes:
        text: the formula, in Markdown.
        source: where it is from, and whether it is a reconstruction.
        function: dotted name of what computes it.
        test: file under tests, two colons, name of the test against the formula.
    """

    text: str
    source: str
    function: str
    test: str


EQUATIONS = [
    Equation(
        "response `Y = -sum abs(X - F)`, padding counts",
        ADDERNET,
        "pkkd_tf.ops.adder_conv2d",
        "ops/test_grid.py::test_square_windows",
    ),
    Equation(
        "filter gradient `sum (X - F) dY`",
        ADDERNET,
        "pkkd_tf.ops.adder_conv2d",
        "ops/test_grid.py::test_square_windows",
    ),
    Equation(
        "input gradient `sum clip(F - X, -1, 1) dY`",
        ADDERNET,
        "pkkd_tf.ops.adder_conv2d",
        "ops/test_grid.py::test_unequal_height_and_width",
    ),
    Equation(
        "on demand: annealing `Y = -(1 - w) sum abs(X - F) - w / 2 sum (X - F)^2`, w from 1 to 0",
        "own variant; idea (`abs(X - F)^p`, p falling; as far as known): arXiv 2105.14202",
        "pkkd_tf.layers.anneal_l2",
        "ops/test_l2.py::test_the_mixture_is_the_formula",
    ),
    Equation(
        "adaptive local learning rate `G <- eta sqrt(numel F) G / norm(G)`, before momentum and "
        "weight decay, after the sum over replicas",
        ADDERNET,
        "pkkd_tf.optimizers.AdderSGD",
        "optimizers/test_adder_sgd.py::test_several_steps_equal_the_formula",
    ),
    Equation(
        "filters start as N(0, 1)",
        ADDERNET,
        "pkkd_tf.layers.AdderConv2D",
        "layers/test_adder_layers.py::test_filters_start_as_standard_normal",
    ),
    Equation(
        "logit distillation `T^2 CE(softmax(s / T), softmax(t / T))`",
        f"{PKKD}; T: Hinton, arXiv 1503.02531",
        "pkkd_tf.distillation.losses.distillation_loss",
        "distillation/test_logit_losses.py::test_distillation_loss",
    ),
    Equation(
        "kernels `exp(u / (2 sigma^2))` of batch-normalised responses u, the student's with a 1x1 "
        "convolution, both normalised, mean squared difference (raw Y, sign -1, a trained teacher "
        "side: arguments)",
        f"{PKKD}, a reconstruction",
        "pkkd_tf.distillation.FeatureLoss",
        "distillation/test_feature_loss.py::"
        "test_features_follow_the_formula_and_the_loss_stays_in_its_range",
    ),
    Equation(
        "on demand: teacher's kernel `exp(-norm(X - F)^2 / (2 sigma^2))`",
        "own variant",
        "pkkd_tf.distillation.SquaredDistance",
        "distillation/test_distance.py::test_distances_are_those_of_the_windows",
    ),
    Equation(
        "student `L = CE + alpha KD + beta L_features`, teacher `CE`, in one step from scratch",
        f"{PKKD}, a reconstruction",
        "pkkd_tf.PKKD",
        "distillation/test_pkkd_training.py::test_the_loss_is_the_sum_of_its_weighted_parts",
    ),
    Equation(
        "first convolution and classifier stay, all between are adders",
        f"{ADDERNET}, official code",
        "pkkd_tf.models.build",
        "models/test_models.py::test_only_the_stated_layers_multiply",
    ),
    Equation(
        "an adder term counts two additions, a product one of each",
        PKKD,
        "pkkd_tf.analysis.count_operations",
        "analysis/test_counts.py::test_one_layer",
    ),
    Equation(
        "int8: `requantise(-sum abs(x - f) + bias + residual)`, one scale for x and f",
        "own definition, in integers",
        "pkkd_tf.quantization.adder_conv2d_int8",
        "quantization/test_integer.py::test_formula",
    ),
    Equation(
        "energy `mul 3.7 pJ + add 0.9 pJ` (int8 0.2 and 0.03)",
        "Horowitz, ISSCC 2014, 45 nm",
        "export.energy.energy_of_counts",
        "export/test_energy.py::test_published_ratios_and_ceilings",
    ),
]
# Millions of multiplications and additions of one image, CNN and ANN: PKKD's table.
COUNTS = {
    "ResNet-20": ("resnet20", (41.17, 41.17), (0.45, 81.89)),
    "ResNet-32": ("resnet32", (69.12, 69.12), (0.45, 137.79)),
    "VGG-small": ("vgg_small", (650.0, 650.0), (50.0, 1250.0)),
}


def equations() -> str:
    """Markdown: a line an equation."""
    lines = ["| equation | source | function | tested by |", "|---|---|---|---|"]
    for each in EQUATIONS:
        file, name = each.test.split("::")
        test = f"[`{name}`](../tests/{file})"
        lines.append(f"| {each.text} | {each.source} | `{each.function}` | {test} |")
    return "\n".join(lines) + "\n"


def figures() -> str:
    """Markdown: published figures beside this project's."""
    lines = ["| figure | published | here | command |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in [*_counted(), *_trained()]]
    return "\n".join(lines) + "\n"


def _counted() -> list[tuple[str, ...]]:
    """Operations and energy: counted in the networks that `pkkd_tf.models` builds."""
    import pkkd_tf
    from export.energy.estimate import energy_of_counts

    found = []
    for name, (model, *published) in COUNTS.items():
        for kind, millions in zip(("convolution", "adder"), published):
            layers = pkkd_tf.analysis.count_operations(pkkd_tf.models.build(model, kind))
            own = [sum(getattr(o, n) for o in layers) for n in ("multiplications", "additions")]
            label = f"{name}, {'CNN' if kind == 'convolution' else 'ANN'}"
            operations, energies = [], []
            for pair in (millions, [count / 1e6 for count in own]):
                operations.append(f"{pair[0]:.2f} M, {pair[1]:.2f} M")
                each = [energy_of_counts(*(1e6 * n for n in pair), bits=b) for b in (32, 8)]
                energies.append(f"{each[0]:.1f}, {each[1]:.2f} uJ")
            command = f"`pkkd_tf.summary(pkkd_tf.models.build('{model}', '{kind}'))`"
            found.append((f"{label}: multiplications, additions", *operations, command))
            command = "`python -m export.energy --model=FILE.keras --output=DIR`"
            found.append((f"{label}: energy of these, float32, int8", *energies, command))
    return found


def _trained() -> list[tuple[str, ...]]:
    """Test accuracies: published ones, and the longest trainings of results/cifar10."""
    from benchmarks import results_table, rows

    runs = results_table.groups(results_table.read(ROOT / "results/cifar10"))
    found = []
    for row in [r for r in rows.rows("cifar10") if not r.choice]:
        own = row.dataset, row.model, row.method, ""
        mine = {k: v for k, v in runs.items() if k[:4] == own and not k[6]}
        here, length = "not yet trained", ""
        if mine:
            longest = max(mine, key=lambda key: int(key[4]))
            mean = results_table.mean([run["student_final"] for run in mine[longest]])
            here = f"{mean} % after **{longest[4]} epochs**, seeds: {len(mine[longest])}"
            length = (
                f" --epochs={longest[4]} --batch_size={longest[5]} --seeds={len(mine[longest])}"
            )
        published = row.published()
        known = f"{published:.2f} %, 400 epochs" if published else "-"
        command = f"--rows={row.name}{length} --data_dir=DIR --output=OUT"
        command = f"`python -m benchmarks.reproduce {command}`"
        found.append((f"CIFAR-10, {row.model}, {row.method}: accuracy", known, here, command))
    return found


if __name__ == "__main__":
    print(equations())
    print(figures())
