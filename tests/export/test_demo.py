"""The deployment report: files, figures that are those measured, one HTML file, clear errors."""

import base64
import html.parser
import json
import pathlib
import re
import shlex
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

from export.demo import VARIANTS, Setting, commands, find_or_train, measuring, report, runs, verdict
from export.demo.document import Code, Picture, Table, Text, markdown, page
from export.energy import estimate, tflite_records
from export.latency import Timing
from export.program import ExportError
from export.tflite import Network
from pkkd_tf import data, models
from tests import delegate_library

ROOT = pathlib.Path(__file__).parents[2]
NUM_TEST = 50
pytestmark = pytest.mark.slow


def save_networks(folder):
    """An untrained student and teacher with batch statistics of the digits."""
    images = data.load("digits").sample(64)
    for name, kind in (("student", "adder"), ("teacher", "convolution")):
        keras.utils.set_random_seed(0)
        model = models.build("digits_resnet", kind)
        for _ in range(40):
            model(images, training=True)
        model.save(folder / f"{name}.keras")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    save_networks(folder)
    return folder


@pytest.fixture(scope="module")
def output(networks):
    """The whole program, as a user starts it."""
    delegate_library.path()
    folder = networks / "report"
    flags = [f"--output={folder}", f"--student={networks / 'student.keras'}"]
    done = demo(*flags, "--num_runs=9", f"--limit_test={NUM_TEST}")
    assert done.returncode == 0, done.stderr
    assert f"report: {folder / 'report.md'}, {folder / 'report.html'}" in done.stdout
    return folder


def demo(*flags):
    command = [sys.executable, "-m", "export.demo", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def figures(output):
    return json.loads((output / "figures.json").read_text())


@pytest.fixture(scope="module")
def tables(output):
    """Every table of report.md, as rows of cells."""
    found = [[]]
    for line in (output / "report.md").read_text().splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[rows[0], *rows[2:]] for rows in found if rows]


def test_what_is_written(output):
    names = {"report.md", "report.html", "figures.json", "files.png", "energy.png"}
    assert {p.name for p in output.iterdir()} == names | {v.file for v in VARIANTS}


def test_accuracies_are_those_of_the_files(output, figures):
    batches = list(data.load("digits").test(NUM_TEST).as_numpy_iterator())
    images, labels = batches[0]
    for variant in VARIANTS:
        network = Network((output / variant.file).read_bytes(), delegate_library.path())
        accuracy = np.mean(network(images).argmax(-1) == labels)
        assert figures["files"][variant.name]["accuracy"] == pytest.approx(accuracy)
    assert figures["num_test"] == len(labels) == NUM_TEST
    for name, entry in figures["files"].items():
        assert entry["agreement"] == 1.0 or "int8" in name


def test_table_of_files(figures, tables, output):
    rows = {row[0]: row[1:] for row in tables[0][1:]}
    assert list(rows) == [variant.name for variant in VARIANTS]
    for variant in VARIANTS:
        entry = figures["files"][variant.name]
        size = (output / variant.file).stat().st_size
        assert rows[variant.name] == [
            f"{size:,}",
            f"{100 * entry['accuracy']:.2f} %",
            f"{100 * entry['agreement']:.2f} %",
            microseconds(entry["microseconds"]["min"]),
        ]


def microseconds(value):
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def test_table_of_latencies(figures, tables):
    rows = {row[0]: row[1:] for row in tables[1][1:]}
    for variant in VARIANTS:
        times = figures["files"][variant.name]["microseconds"]
        keys = ("min", "median", "p95", "first")
        assert rows[variant.name][:4] == [microseconds(times[key]) for key in keys]
        ratios = ["-", "-"]
        if variant.rival:
            rival = figures["files"][variant.rival]["microseconds"]
            ratios = [f"{times[key] / rival[key]:#.3g}".rstrip(".") + " x" for key in keys[:2]]
        assert rows[variant.name][4:] == ratios


def test_table_of_energies(tables, output):
    rows = {row[0]: row[1:] for row in tables[2][1:]}
    for variant in VARIANTS:
        bits = 8 if variant.format == "int8" else 32
        total = estimate(tflite_records((output / variant.file).read_bytes()), bits).total
        assert rows[variant.name][:4] == [
            f"{total.record.multiplications:,}",
            f"{total.record.additions:,}",
            f"{total.compute:.4g}",
            f"{total.with_memory:.4g}",
        ]
    assert [rows[name][4] for name in ("ANN float32, custom_op", "ANN int8")] == [
        "2.46 x",
        "3.58 x",
    ]


def test_what_the_figures_are_from(tables, figures):
    rows = dict(tables[3][1:])
    assert rows["threads"] == "1" and rows["tensorflow"] and rows["TFLite interpreter"]
    assert rows["date"].startswith("20") and "cpu" in rows and float(rows["load average"]) >= 0
    assert figures["environment"]["threads"] == 1 and figures["setting"]["num_runs"] == 9


class Page(html.parser.HTMLParser):
    """Tables, and whatever a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.loaded, self.cell = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = tag

    def handle_endtag(self, tag):
        self.cell = None if tag == self.cell else self.cell

    def handle_data(self, text):
        if self.cell:
            self.tables[-1][-1][-1] += text


def test_html_needs_no_other_file(output, tables):
    """The same tables, and the pictures themselves inside."""
    text = (output / "report.html").read_text()
    read = Page(text)
    assert read.tables == tables
    assert "url(" not in text and "<script" not in text and "@import" not in text
    start = "data:image/png;base64,"
    assert len(read.loaded) == 2 and all(link.startswith(start) for link in read.loaded)
    for link, name in zip(read.loaded, ("files.png", "energy.png"), strict=True):
        assert base64.b64decode(link.removeprefix(start)) == (output / name).read_bytes()


def test_commands_repeat_the_figures(output, tables):
    """One of them is run; of the others the files are there."""
    lines = (output / "report.md").read_text().split("```sh\n")[1].split("```")[0].splitlines()
    typed = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    assert all(words[:2] == ["python", "-m"] for words in typed)
    modules = [words[2] for words in typed]
    assert modules.count("export.tflite") == 5 and modules.count("export.energy") == 3
    assert modules.count("export.benchmark") == modules.count("export.demo") == 1
    for words in typed:
        for flag in words[3:]:
            name, _, value = flag.partition("=")
            if name in ("--model", "--graph", "--compare", "--external_delegate_path"):
                assert (ROOT / value).is_file(), flag
    words = next(words for words in typed if words[2] == "export.energy")
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, cwd=ROOT)
    cells = next(line for line in done.stdout.splitlines() if line.startswith("ratio")).split()
    assert " ".join(cells[2:4]) == tables[2][2][5]


def test_it_may_be_run_again_but_spares_other_reports(output, tmp_path):
    report.check_free(output)
    report.check_free(tmp_path)
    (tmp_path / "report.md").write_text("of a training")
    message = "--output must be a new folder or one of an earlier report .* Received: output='.*'"
    with pytest.raises(ExportError, match=message):
        report.check_free(tmp_path)


def figures_of(**least):
    """Figures with these least times, and energies that follow from their names."""
    files = {}
    for variant in VARIANTS:
        time = least[f"{variant.role}_{variant.format}"]
        total = types.SimpleNamespace(compute=time, with_memory=2 * time)
        files[variant.name] = types.SimpleNamespace(
            exported=types.SimpleNamespace(variant=variant),
            timing=Timing("x", 0, 0, 0, np.array([time, 500.0]), 0),
            energy=types.SimpleNamespace(total=total),
        )
    return types.SimpleNamespace(files=files)


def test_the_sentences_follow_the_numbers():
    times = {"teacher_portable": 10, "teacher_int8": 8, "student_portable": 123}
    figures = figures_of(**times, student_custom_op=10.4, student_int8=4)
    assert verdict.latency(figures).endswith(
        "faster: ANN int8 (0.500 x the time of CNN int8); as fast: ANN float32, custom_op (1.04 x "
        "the time of CNN float32); slower: ANN float32, portable (12.3 x the time of CNN float32)."
    )
    assert "portable 12.3 x more by operations alone, 12.3 x more with" in verdict.energy(figures)
    assert "ANN int8 2.00 x less by operations alone" in verdict.energy(figures)
    figures = figures_of(**times, student_custom_op=20, student_int8=9)
    assert "faster: nowhere; as fast: nowhere; slower: ANN float32, cu" in verdict.latency(figures)


def test_documents_escape_what_is_theirs():
    sections = [
        ("A & B", [Text("1 < 2"), Table(["", "x|y"], [["a", "<b>"]]), Code("echo '<' && ls")]),
        ("", [Picture("a b.png", 'the "picture"', b"PNG")]),
    ]
    text = page("<title>", sections)
    assert "<h2>A &amp; B</h2>" in text and "<p>1 &lt; 2</p>" in text and "&lt;title&gt;" in text
    assert Page(text).tables == [[["", "x|y"], ["a", "<b>"]]]
    assert 'alt="the &quot;picture&quot;"' in text and "echo &#x27;&lt;&#x27; &amp;&amp; ls" in text
    assert "| a | <b> |" in markdown("t", sections) and "![the" in markdown("t", sections)
    assert "](a%20b.png)" in markdown("t", sections)


def test_paths_are_shown_from_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    setting = Setting(str(tmp_path / "s t.keras"), "/elsewhere/teacher.keras", "cifar10", "data")
    text = commands.text(tmp_path / "out", setting)
    assert "'--student=s t.keras' --teacher=/elsewhere/teacher.keras --dataset=cifar10" in text
    assert "--calibration_images=256 --calibration_data=data" in text
    assert "--output=out/student_int8.tflite" in text


def finished_run(folder, dataset="digits", smoke=False, without=None):
    folder.mkdir(parents=True)
    for name in {"student.keras", "teacher.keras"} - {without}:
        (folder / name).write_bytes(b"")
    content = {"dataset": {"name": dataset}, "flags": {"smoke": smoke}}
    (folder / "report.json").write_text(json.dumps(content))


def test_the_newest_finished_digits_run_is_taken(tmp_path):
    finished_run(tmp_path / "a")
    finished_run(tmp_path / "deep" / "training")
    finished_run(tmp_path / "c", dataset="cifar10")
    finished_run(tmp_path / "d", smoke=True)
    finished_run(tmp_path / "e", without="teacher.keras")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "report.json").write_text("[")
    found = find_or_train(None, None, "digits", tmp_path / "out", runs=tmp_path)
    newest = tmp_path / "deep" / "training"
    assert found == (newest / "student.keras", newest / "teacher.keras")
    assert not (tmp_path / "out").exists()


def test_given_networks(tmp_path):
    student, teacher = tmp_path / "s.keras", tmp_path / "t.keras"
    assert find_or_train(student, teacher, "cifar10", "out") == (student, teacher)
    beside = tmp_path / "teacher.keras"
    assert find_or_train(student, None, "cifar10", "out") == (student, beside)
    for teacher, dataset in ((student, "digits"), (None, "cifar10")):
        with pytest.raises(ExportError, match="--student must be given with --teacher and .*: stu"):
            find_or_train(None, teacher, dataset, "out", runs=tmp_path)


def test_a_training_that_fails(tmp_path, monkeypatch):
    """A program that is not there, which fails sooner than one that is."""
    monkeypatch.setattr(runs, "TRAINING", "experiments.none")
    message = "must be trained first. Received: exit status 1 from python -m experiments.none --out"
    with pytest.raises(ExportError, match=message):
        find_or_train(None, None, "digits", tmp_path / "out", runs=tmp_path)


def test_networks_of_other_data(networks, tmp_path):
    setting = Setting(str(networks / "student.keras"), str(tmp_path / "none.keras"), "digits")
    with pytest.raises(ExportError, match="--teacher must be an existing .keras file"):
        measuring.load_data(setting)
    models.build("digits_resnet", num_classes=7).save(tmp_path / "seven.keras")
    setting = Setting(str(tmp_path / "seven.keras"), str(networks / "teacher.keras"), "digits")
    message = r"--student must take .* takes \(8, 8, 1\) and knows 7, digits has \(8, 8, 1\) and 10"
    with pytest.raises(ExportError, match=message):
        measuring.load_data(setting)


def test_digits_are_trained_where_no_run_is(tmp_path):
    """What `make deploy-demo` does in a fresh checkout, a minute of training included."""
    student, teacher = find_or_train(None, None, "digits", tmp_path / "out", runs=tmp_path)
    assert student == tmp_path / "out" / "training" / "student.keras"
    done = demo(f"--output={tmp_path / 'out'}", f"--student={student}", "--num_runs=20")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["num_test"] == 360
    assert min(entry["accuracy"] for entry in figures["files"].values()) > 0.93
    assert re.search(r"\| ANN int8 \|.*\| 9\d\.\d\d % \|", done.stdout)
    assert find_or_train(None, None, "digits", "x", runs=tmp_path)[0] == student
