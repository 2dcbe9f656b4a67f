"""Align two fields of points by their sources."""

from dataclasses import replace

import numpy as np
import torch

from register.engine.fit.estimate import Estimate, coarse_grid
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
    centres = coarse_grid(frames[0].height, frames[0].width).centres().reshape(-1, 2)
    quality, patches = judge.judged(figures.quality, figures.patches, seen, np.asarray(centres))
    return estimate, Figures(replace(quality, metric_choice=CHOICE), patches)
