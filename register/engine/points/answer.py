"""Align two fields of points by their sources."""

from dataclasses import replace

import numpy as np
import torch

from register.engine.fit.estimate import Estimate
from register.engine.fit.problem import Problem
from register.engine.points import judge
from register.engine.points.look import Seen
from register.engine.quality import assess
from register.engine.quality.assess import Figures
from register.transforms.frame import Frame

METRIC = "structure"
"""The similarity by which the images are compared for the record."""
CHOICE = "no similarity was maximised: sources of both images were matched"


def made(problem: Problem, seen: Seen, frames: tuple[Frame, Frame]) -> tuple[Estimate, Figures]:
    """The estimate on which the sources of two fields of points agree, and its figures."""
    agreed = seen.agreed
    assert agreed is not None
    estimate = Estimate(torch.from_numpy(np.ascontiguousarray(agreed.matrix)))
    figures = assess.judge(problem, estimate, METRIC, matches=None, frames=frames)
    grid = figures.estimate.transform("local", frames).grid
    assert grid is not None
    quality, patches = judge.judged(figures.quality, figures.patches, seen, grid.centres().reshape(-1, 2))
    return figures.estimate, Figures(replace(quality, metric_choice=CHOICE), patches, figures.estimate)
