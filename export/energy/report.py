"""The estimate as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from export.energy import constants as constants_module
from export.energy.constants import Constants
from export.energy.estimate import MEMORY_MODEL, LayerEnergy, NetworkEnergy


def as_json(
    networks: Mapping[str, Sequence[NetworkEnergy]],
    constants: Constants,
    files: Mapping[str, str],
    measured: Mapping[str, Any] | None,
    memory_model: str = MEMORY_MODEL,
) -> bytes:
    """Everything in one document; energies in microjoules, traffic in bytes, for one image.

    Args:
        networks: name -> the network in every number format.
        constants: what the estimates were made with; in the form that `read_constants` reads.
        files: name -> the file of the network.
        measured: name -> what was measured on this machine, or None.
        memory_model: what the estimates assume of memory.

    Returns:
        UTF-8 JSON.
    """
    document = {
        "units": {"energy": "microjoules", "traffic": "bytes", "per": "image"},
        "constants": constants_module.as_json(constants),
        "memory_model": memory_model,
        "networks": [_network(name, files[name], networks[name]) for name in networks],
        "measured": measured,
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _network(name: str, file: str, energies: Sequence[NetworkEnergy]) -> dict[str, Any]:
    return {
        "name": name,
        "file": file,
        "formats": {
            energy.format: {
                "filters_from": energy.filter_level,
                "total": _entry(energy.total),
                "layers": [_entry(layer) for layer in energy.layers],
            }
            for energy in energies
        },
    }


def _entry(layer: LayerEnergy) -> dict[str, Any]:
    record = layer.record
    return {
        "name": record.name,
        "type": record.type,
        "multiplications": record.multiplications,
        "additions": record.additions,
        "filter_bytes": layer.filters,
        "activation_bytes": layer.activations,
        "bytes_by_level": layer.by_level,
        "energy_compute_only": layer.compute,
        "energy_memory": layer.memory,
        "energy_memory_upper": layer.memory_upper,
        "energy_with_memory": layer.with_memory,
    }
