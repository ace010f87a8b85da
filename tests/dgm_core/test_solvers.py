"""The task solver."""

import torch

from dgm_core.manifest import DataSpec
from dgm_core.networks.classifiers import Classifier
from dgm_core.solvers import ClassifierSolver, Restricted

VECTOR = DataSpec((6,), "float32")


def test_it_answers_where_the_examples_lie():
    solver = ClassifierSolver(VECTOR, Classifier(VECTOR, 3), ("a", "b", "c"))
    x = torch.zeros(4, 6, device="meta")
    assert solver.probabilities(x).device == Restricted(solver, ("b",)).probabilities(x).device == x.device
