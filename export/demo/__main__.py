"""Exports a student and its teacher in every format, measures the files, and writes a report.

    python -m export.demo --output=runs/deploy_demo
    python -m export.demo --output=DIR --student=runs/r20/student.keras --dataset=cifar10 \
        --data_dir=DATA

Without --student the newest digits run under runs/ is taken, or one is trained (a minute). OUTPUT
ends with the `.tflite` files, report.md, report.html (one file, pictures inside), figures.json and
pictures.
"""

import os
from pathlib import Path

from absl import flags

from experiments.folders import check_writable
from export import program
from export.demo import files, measuring, report, runs
from pkkd_tf.data import PREPROCESSING


def main() -> None:
    """Reads the flags and goes through all steps."""
    values = flags.FLAGS
    output = Path(values.output)
    report.check_free(output)
    check_writable(output)
    student, teacher = runs.find_or_train(values.student, values.teacher, values.dataset, output)
    setting = measuring.Setting(
        student=os.fspath(student),
        teacher=os.fspath(teacher),
        dataset=values.dataset,
        data_dir=values.data_dir,
        num_runs=values.num_runs,
        limit_test=values.limit_test,
    )
    print(f"student: {student}\nteacher: {teacher}", flush=True)
    data = measuring.load_data(setting)
    exported = files.export_files(setting, data, output)
    figures = measuring.measure(setting, data, exported)
    for line in report.write_report(output, setting, figures):
        print(line)
    print(f"report: {output / 'report.md'}, {output / 'report.html'}")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "Folder for the files and the report.", required=True)
    flags.DEFINE_string("student", None, "An adder network as .keras file; None: digits.")
    flags.DEFINE_string("teacher", None, "Its twin; None: teacher.keras beside --student.")
    flags.DEFINE_enum("dataset", "digits", sorted(PREPROCESSING), "What they were trained on.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set.")
    flags.DEFINE_integer("num_runs", 200, "Runs of each file that are timed.", lower_bound=2)
    flags.DEFINE_integer("limit_test", None, "Use that many test images.", lower_bound=1)
    program.run(main)
