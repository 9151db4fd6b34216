import csv
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
import scipy.stats
from matplotlib.image import imread

from experiments import pictures
from experiments.pictures import curves, fits, layers, style
from pkkd_tf.layers import AdderConv2D, AdderDepthwiseConv2D

HISTORY = {
    "epoch": lambda e: e,
    "accuracy": lambda e: 1 - 0.8 / (e + 1),
    "val_accuracy": lambda e: 0.9 - 0.8 / (e + 1),
    "teacher_accuracy": lambda e: 1 - 0.5 / (e + 1),
    "val_teacher_accuracy": lambda e: 0.95 - 0.5 / (e + 1),
    "loss": lambda e: 3 / (e + 1),
    "ce_loss": lambda e: 2 / (e + 1),
    "kd_loss": lambda e: 0.9 / (e + 1),
    "feature_loss": lambda e: 0.0,
    "teacher_loss": lambda e: 1 / (e + 1),
    "learning_rate": lambda e: 0.1 / (e + 1),
}
LAYERS = ("similarity", "share_ce", "share_kd", "share_feature", "filter_rms", "effective_rank")


def write_csv(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def history(path: Path, names=tuple(HISTORY), epochs: int = 20) -> Path:
    rows = [{name: HISTORY[name](epoch) for name in names} for epoch in range(epochs)]
    return write_csv(path, rows)


def colors(path: Path) -> set[tuple]:
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return {tuple(color) for color in np.unique(pixels.reshape(-1, 3), axis=0)}


def rgb(color: str) -> tuple:
    return tuple(round(255 * part) for part in matplotlib.colors.to_rgb(color))


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the pictures that a test draws."""
    seen = []
    save = style._save

    def keep(figure, path):
        seen.extend(figure.axes)
        save(figure, path)

    monkeypatch.setattr(style, "_save", keep)
    return seen


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


@pytest.mark.slow
def test_learning_curves_of_a_distilled_run(tmp_path, drawn):
    pictures.learning_curves(history(tmp_path / "history.csv"), tmp_path / "curves.png")
    accuracy, loss, rate = drawn
    assert [axes.get_title(loc="left") for axes in drawn] == ["Accuracy", "Losses", "Learning rate"]
    found = lines(accuracy)
    assert set(found) == {
        "student, training",
        "student, test (best 86.00 %)",
        "teacher, training",
        "teacher, test (best 92.50 %)",
    }
    np.testing.assert_allclose(found["student, training"][:2], [[0, 20], [1, 60]])
    # Features that cost nothing have no place on a logarithmic axis.
    assert "features" not in lines(loss) and "distillation" in lines(loss)
    labels = {label.get_text() for label in loss.get_yticklabels(which="both")}
    assert {"0.1", "0.2", "0.5", "1", "2"} <= labels and "0.3" not in labels
    assert loss.get_yscale() == "log" and rate.get_ylim()[0] == 0
    assert {rgb(style.STUDENT), rgb(style.TEACHER), (255, 255, 255)} <= colors(
        tmp_path / "curves.png"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "panels"),
    [
        (("epoch", "accuracy", "val_accuracy", "loss", "learning_rate"), 3),
        (("loss", "val_accuracy"), 2),
        (("accuracy",), 1),
    ],
)
def test_learning_curves_draw_what_is_there(tmp_path, drawn, names, panels):
    pictures.learning_curves(history(tmp_path / "h.csv", names, epochs=1), tmp_path / "c.png")
    assert len(drawn) == panels
    assert not any("student" in label for axes in drawn for label in lines(axes))
    assert len(colors(tmp_path / "c.png")) > 2


def test_losses_show_a_total_only_if_it_has_parts_and_the_labels_on_test_images(tmp_path, drawn):
    path = tmp_path / "history.csv"
    path.write_text(
        "epoch,loss,ce_loss,val_loss,val_ce_loss,val_kd_loss\n1,2,2,3,3,1\n2,1,1,2,2,1\n"
    )
    pictures.learning_curves(path, tmp_path / "curves.png")
    assert set(lines(drawn[0])) == {"labels", "labels, test"}
    path.write_text("epoch,loss,val_loss\n1,2,3\n")
    pictures.learning_curves(path, tmp_path / "curves.png")
    assert set(lines(drawn[1])) == {"total", "total, test"}


def test_an_epoch_trained_again_counts_once_and_a_cut_row_is_no_error(tmp_path, drawn):
    path = tmp_path / "history.csv"
    path.write_text("epoch,accuracy,loss\n0,0.1,2\n1,0.2,1\n1,0.3,1\n2,0.4\n")
    pictures.learning_curves(path, tmp_path / "curves.png")
    np.testing.assert_allclose(lines(drawn[0])["training"], [[0, 10], [1, 30], [2, 40]])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("epoch,loss\n", r"at least one row. Received: path='.*h.csv' with no row"),
        ("epoch,loss\n0,high\n", r"Received: 'high' in path='.*h.csv', column='loss', row=1"),
        (
            "epoch,size\n0,1\n",
            r"`learning_rate`. Received: path='.*h.csv', columns=\['epoch', 'size'\]",
        ),
    ],
)
def test_a_history_without_a_picture_leaves_the_old_one(tmp_path, text, error):
    (tmp_path / "h.csv").write_text(text)
    (tmp_path / "c.png").write_bytes(b"old")
    with pytest.raises(ValueError, match=error):
        pictures.learning_curves(tmp_path / "h.csv", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() == b"old"


def test_a_picture_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "c.png").write_bytes(b"old")
    monkeypatch.setattr(curves, "_rate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pictures.learning_curves(history(tmp_path / "h.csv"), tmp_path / "c.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.png", "h.csv"]
    assert (tmp_path / "c.png").read_bytes() == b"old"


def layer_rows(count: int, epochs: int, steps: int = 1, names=LAYERS) -> list[dict]:
    return [
        {"epoch": epoch, "step": 10 * epoch + step, "layer": f"conv{layer}"}
        | {name: 0.1 + 0.01 * layer + epoch for name in names}
        for epoch in range(epochs)
        for step in range(steps)
        for layer in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 6, 18])
def test_layer_curves_have_a_line_a_layer_and_a_key(tmp_path, drawn, count):
    path = write_csv(tmp_path / "layers.csv", layer_rows(count, epochs=3))
    pictures.layer_curves(path, tmp_path / "layers.png")
    panels = drawn[: len(LAYERS)]
    assert panels[0].get_title(loc="left") == "Kernel similarity"
    assert all(len(axes.get_lines()) == count for axes in panels)
    last = panels[0].get_lines()[-1].get_xydata()
    np.testing.assert_allclose(last, [[e, 0.1 + 0.01 * (count - 1) + e] for e in range(3)])
    assert len(drawn) == len(LAYERS) + (count > layers.MOST_IN_LEGEND)
    assert bool(panels[0].figure.legends) == (count <= layers.MOST_IN_LEGEND)
    assert len(colors(tmp_path / "layers.png")) > count


def test_layer_curves_run_over_steps_when_epochs_do_not_tell_them_apart(tmp_path, drawn):
    rows = layer_rows(2, epochs=2, steps=3, names=("filter_rms",))
    pictures.layer_curves(write_csv(tmp_path / "l.csv", rows), tmp_path / "l.png")
    assert drawn[0].get_xlabel() == "training step"
    assert drawn[0].get_lines()[0].get_xdata().tolist() == [0, 1, 2, 10, 11, 12]


def test_layer_curves_leave_out_what_was_not_measured(tmp_path, drawn):
    rows = layer_rows(2, epochs=2, names=("similarity", "share_feature", "filter_rms"))
    for row in rows:
        row |= {"share_kd": 0.0, "effective_rank": 0.0}
        if row["layer"] == "conv1":
            row |= {"similarity": 0.0, "share_feature": 0.0}
    pictures.layer_curves(write_csv(tmp_path / "l.csv", rows), tmp_path / "l.png")
    drawn_lines = {axes.get_title(loc="left"): len(axes.get_lines()) for axes in drawn}
    # No gradient from the features is a measurement, no similarity is none.
    assert drawn_lines == {
        "Kernel similarity": 1,
        "Gradient share, features": 2,
        "Size of the filters": 2,
    }


@pytest.mark.parametrize("missing", ["layer", "time", "quantity"])
def test_layer_curves_say_what_is_missing(tmp_path, missing):
    rows = layer_rows(2, epochs=2, names=() if missing == "quantity" else ("similarity",))
    absent = {"layer": ["layer"], "time": ["epoch", "step"], "quantity": []}[missing]
    rows = [{key: value for key, value in row.items() if key not in absent} for row in rows]
    with pytest.raises(ValueError, match=r"must have `layer`, `epoch` or `step`.* Received: path="):
        pictures.layer_curves(write_csv(tmp_path / "l.csv", rows), tmp_path / "l.png")


@pytest.mark.slow
def test_comparison_draws_the_second_half_again(tmp_path, drawn):
    runs = {
        name: [0.5 + 0.01 * e + add for e in range(40)] for name, add in (("CNN", 0.1), ("x", 0))
    }
    pictures.comparison(runs, tmp_path / "c.png")
    whole, late = drawn
    np.testing.assert_allclose(lines(whole)["CNN (99.00 %)"][[0, -1]], [[1, 60], [40, 99]])
    assert late.get_xlim() == (21, 40) and late.get_ylim()[0] > 69
    assert {rgb(style.TEACHER), rgb(style.OTHERS[1])} <= colors(tmp_path / "c.png")


def test_every_line_of_a_comparison_looks_its_own_way():
    names = ["KD ANN", "PKKD ANN", "plain ANN", "CNN", *(f"PKKD ANN {n}" for n in range(24))]
    found = style.role_lines(names)
    assert len(set(found)) == len(names) == 28
    roles = style.STUDENT, style.PLAIN, style.TEACHER
    assert found[1:4] == [(role, "-") for role in roles] and found[0] == (style.OTHERS[0], "-")


def test_the_legend_of_a_comparison_lies_inside(tmp_path, monkeypatch):
    figures = []
    save = style._save
    monkeypatch.setattr(style, "_save", lambda f, path: (save(f, path), figures.append(f)))
    names = "KD ANN", "PKKD ANN", "plain ANN", "CNN"
    pictures.comparison(dict.fromkeys(names, [0.5]), tmp_path / "c.png")
    (legend,) = figures[0].legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figures[0].bbox.x1


def test_comparison_of_a_few_epochs_has_one_panel(tmp_path, drawn):
    pictures.comparison({"plain ANN": [0.5], "PKKD ANN": [0.4, float("nan")]}, tmp_path / "c.png")
    assert set(lines(drawn[0])) == {"plain ANN (50.00 %)", "PKKD ANN (40.00 %)"}
    assert len(drawn) == 1 and {rgb(style.PLAIN), rgb(style.STUDENT)} <= colors(tmp_path / "c.png")


@pytest.mark.parametrize("runs", [{}, {"a": []}, {"a": [float("nan")]}, {"a": [[0.5]]}])
def test_comparison_refuses_runs_without_values(tmp_path, runs):
    with pytest.raises(ValueError, match=r"flat list of accuracies .* Received: runs=\{"):
        pictures.comparison(runs, tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize(
    ("family", "sample"),
    [
        ("laplace", lambda rng: rng.laplace(0.3, 1.7, 100_000)),
        ("gaussian", lambda rng: rng.normal(0.3, 1.7, 100_000)),
    ],
)
def test_fits_recover_known_parameters_and_prefer_the_right_family(family, sample):
    weights = sample(np.random.default_rng(1))
    fitted = fits.fit(weights)
    keys = {"laplace": ("loc", "scale"), "gaussian": ("mean", "std")}
    # Three to four standard errors of 100,000 samples.
    np.testing.assert_allclose([fitted[key] for key in keys[family]], [0.3, 1.7], atol=0.02)
    assert fitted["better"] == family
    for name, law in (("laplace", scipy.stats.laplace), ("gaussian", scipy.stats.norm)):
        parameters = law.fit(weights)
        np.testing.assert_allclose([fitted[key] for key in keys[name]], parameters)
        likelihood = law.logpdf(weights, *parameters).mean()
        assert fitted[f"{name}_log_likelihood"] == pytest.approx(likelihood)
        x = np.linspace(-4, 4, 9)
        np.testing.assert_allclose(fits.densities(fitted, x)[name], law.pdf(x, *parameters))


def test_gaussian_layers_of_different_width_are_recognized_one_by_one():
    rng = np.random.default_rng(0)
    found = fits.fit_layers({f"conv{i}": rng.normal(i, 4.0**i, (3, 3, 32, 32)) for i in range(3)})
    assert (found["better"], found["standardized"]["better"]) == ("laplace", "gaussian")
    assert (found["laplace_layers"], found["num_layers"]) == (0, 3)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0], [0.0, np.nan, 1.0]])
def test_fits_refuse_what_has_no_distribution(weights):
    with pytest.raises(
        ValueError,
        match=r"not all equal. Received: \d weights, \d of them not finite.* in layer='conv'",
    ):
        fits.fit_layers({"conv": np.array(weights)})


def network(kind, depthwise, name: str, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(16, 3, name="stem")(inputs)
    x = kind(32, 3, use_bias=False, name="conv1")(x)
    inner = keras.Input(x.shape[1:])
    x = keras.Model(inner, depthwise(3, name="depthwise")(inner), name="block")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head")(x), name=name)


def student_and_teacher() -> tuple[keras.Model, keras.Model]:
    """The student's filters Laplace, the teacher's Gaussian distributed, as training makes them."""
    student = network(AdderConv2D, AdderDepthwiseConv2D, "student", 0)
    teacher = network(keras.layers.Conv2D, keras.layers.DepthwiseConv2D, "teacher", 1)
    rng = np.random.default_rng(0)
    for model, draw in ((student, rng.laplace), (teacher, rng.normal)):
        layer = model.get_layer("conv1")
        layer.set_weights([draw(0.1, 0.5, layer.kernel.shape)])
    return student, teacher


@pytest.mark.slow
def test_filter_histograms_take_the_adder_layers_and_their_counterparts(tmp_path, drawn):
    student, teacher = student_and_teacher()
    found = pictures.filter_histograms(student, teacher, tmp_path / "f.png")
    for name, family in (("student", "laplace"), ("teacher", "gaussian")):
        assert list(found[name]["layers"]) == ["conv1", "block/depthwise"]
        assert found[name]["layers"]["conv1"]["better"] == family
        assert found[name]["weights"] == 3 * 3 * 16 * 32 + 3 * 3 * 32
        assert found[name]["num_layers"] == 2
        assert found[name]["standardized"]["std"] == pytest.approx(1)
    kernel = student.get_layer("conv1").get_weights()[0]
    assert found["student"]["layers"]["conv1"]["loc"] == pytest.approx(np.median(kernel), abs=1e-6)
    assert [axes.get_yscale() for axes in drawn] == ["linear", "linear", "log", "log"]
    assert len(colors(tmp_path / "f.png")) > 20


def test_filter_histograms_without_a_teacher(tmp_path, drawn):
    found = pictures.filter_histograms(student_and_teacher()[0], None, tmp_path / "f.png")
    assert list(found) == ["student"] and len(drawn) == 2


def test_filter_histograms_of_a_convolutional_network_alone(tmp_path, drawn):
    found = pictures.filter_histograms(student_and_teacher()[1], None, tmp_path / "f.png")
    assert list(found["student"]["layers"]) == ["stem", "conv1", "block/depthwise"]
    assert "Student, convolution filters" in drawn[0].get_title(loc="left")


def test_filter_histograms_name_what_does_not_fit(tmp_path):
    student, _ = student_and_teacher()
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="conv1")], name="other")
    with pytest.raises(ValueError, match=r"Received: student_model='other', layers=\['conv1'\]"):
        pictures.filter_histograms(other, None, tmp_path / "f.png")
    with pytest.raises(ValueError, match=r"teacher_model='other', without=\['block/depthwise'\]"):
        pictures.filter_histograms(student, other, tmp_path / "f.png")
    assert not list(tmp_path.iterdir())


def test_pictures_leave_no_trace_in_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "svg")
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    before = dict(matplotlib.rcParams)
    pictures.learning_curves(history(tmp_path / "h.csv"), tmp_path / "c.png")
    assert dict(matplotlib.rcParams) == before
    pyplot = matplotlib._pylab_helpers.Gcf
    assert not pyplot.get_all_fig_managers()


def test_the_same_run_gives_the_same_bytes(tmp_path):
    path = history(tmp_path / "h.csv")
    for name in ("a.png", "b.png"):
        pictures.learning_curves(path, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
