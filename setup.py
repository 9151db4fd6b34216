"""Package metadata: what is installed, on which versions it was tried."""

from pathlib import Path

from setuptools import find_packages, setup

TENSORFLOW = ">=2.21,<2.22"

setup(
    name="pkkd_tf",
    version="0.1.0",
    description="Adder networks in TensorFlow and Keras, trained by progressive distillation",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["pkkd_tf*", "custom_ops*", "experiments*", "export*"]),
    install_requires=[
        f"tensorflow{TENSORFLOW}",
        "keras>=3.15,<3.16",
        "tensorflow-datasets>=4.9.10,<4.10",
        "importlib_resources",  # tensorflow-datasets needs it and does not say so
        "absl-py>=1.4",
        "numpy>=2.1",
        "scikit-learn>=1.5",
        "matplotlib>=3.9",
    ],
    extras_require={
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        "tfmot": ["tensorflow-model-optimization>=0.8.1,<0.9", "tf-keras>=2.21,<2.22"],
        "dev": ["pytest>=8", "ruff>=0.14", "mypy>=1.15", "pillow"],
    },
)
