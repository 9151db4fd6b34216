"""What an inference costs: operations, memory traffic and energy, layer by layer.

`python -m export.energy --model=student.keras --compare=teacher.keras --output=DIR` reports it.
"""

from export.energy.constants import HOROWITZ, Constants, Level, Operation, read_constants
from export.energy.estimate import LayerEnergy, NetworkEnergy, energy_of_counts, estimate
from export.energy.keras_records import keras_records
from export.energy.records import LayerRecord
from export.energy.tflite_records import tflite_bits, tflite_records

__all__ = [
    "HOROWITZ",
    "Constants",
    "LayerEnergy",
    "LayerRecord",
    "Level",
    "NetworkEnergy",
    "Operation",
    "energy_of_counts",
    "estimate",
    "keras_records",
    "read_constants",
    "tflite_bits",
    "tflite_records",
]
