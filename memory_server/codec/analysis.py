"""How a task uses the shared generator: what its kind measured of it, as the wire says it."""

from typing import Any

from memory_api.v1 import memory_pb2 as pb

from dgm_core.analysis import Analysis, measured
from dgm_core.manifest import TaskEntry


def task_analysis(entry: TaskEntry) -> pb.TaskAnalysis:
    """One task of a manifest. Of a kind that measures nothing, only what forgetting depends on is set."""
    analysis = measured(entry.analysis)
    return pb.TaskAnalysis(
        task=entry.task,
        erasable=entry.erasable,
        consolidated=entry.consolidated,
        reuses=entry.reuses,
        **({} if analysis is None else _told(analysis)),
    )


def _told(analysis: Analysis) -> dict[str, Any]:
    sizes = analysis["bytes"]
    return {
        "gate": analysis["gate"],
        # A manifest's text sorts its keys, so that "layers" has lost its order and "order" says it.
        "layers": [pb.LayerUsage(layer=layer, **analysis["layers"][layer]) for layer in analysis["order"]],
        "trajectory": [pb.MaskPoint(**point) for point in analysis["trajectory"]],
        "parameters": analysis["parameters"],
        "worst_case": analysis["worst_case"],
        "weight_bytes": sizes["weights"],
        "mask_bytes": sizes["masks"],
        "own_bytes": sizes["own"],
    }
