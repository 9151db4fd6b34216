"""Adder layers in builtin form: SUB, ABS and SUM of a `.tflite` graph that belong together."""

from typing import Any

from export.tflite.graph import Graph

# Nothing moves: another shape of the same numbers.
VIEWS = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}


class AdderParts:
    """Finds SUB, ABS, SUM in a row, changes of shape between them aside."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.makers = {int(t): o for o in graph.operators for t in o.outputs}
        self.readers: dict[int, list[Any]] = {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                self.readers.setdefault(int(tensor), []).append(operator)

    def difference(self, operator: Any) -> int | None:
        """What the SUB writes, if the operator is the SUB or SUM of such a row."""
        name = self.graph.name(operator)
        if name == "SUB":
            magnitude = self._reader(operator, "ABS")
            summed = None if magnitude is None else self._reader(magnitude, "SUM")
            return None if summed is None else int(operator.outputs[0])
        magnitude = self._maker(operator, "ABS") if name == "SUM" else None
        subtraction = None if magnitude is None else self._maker(magnitude, "SUB")
        return None if subtraction is None else self.difference(subtraction)

    def _reader(self, operator: Any, name: str) -> Any | None:
        """The one operator that reads the output, if it has this name."""
        readers = self.readers.get(int(operator.outputs[0]), [])
        found = self.graph.name(readers[0]) if len(readers) == 1 else None
        if found in VIEWS:
            return self._reader(readers[0], name)
        return readers[0] if found == name else None

    def _maker(self, operator: Any, name: str) -> Any | None:
        """The operator that makes the first input, if it has this name."""
        maker = self.makers.get(int(operator.inputs[0]))
        found = None if maker is None else self.graph.name(maker)
        if found in VIEWS:
            return self._maker(maker, name)
        return maker if found == name else None
