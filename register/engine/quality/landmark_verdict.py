"""Hold landmarks in a finished estimate, and judge the alignment with them."""

from dataclasses import replace

import torch

from register.engine.fit import held
from register.engine.fit.estimate import Estimate
from register.engine.fit.held import Held
from register.engine.fit.problem import Problem
from register.engine.quality import evidence, verdict
from register.engine.quality.recognition import recognised
from register.geometry import models
from register.transforms.quality import HeldLandmark, HeldLandmarks, Quality, Verdict

LEAST_KEPT, LEAST_SHARE = 4, 0.5
"""The fewest kept landmarks, and the smallest share of all, that outweigh the images."""


def hold(problem: Problem, estimate: Estimate, metric: str) -> Held:
    """The estimate with the landmarks held, if any, on the judging level or on that of its patches.

    Where matching regions cannot be recognised, the images are taken to determine nothing.
    """
    if problem.landmarks is None:
        return Held(estimate, torch.ones(0, dtype=torch.bool), 0.0)
    level = estimate.patches.level if estimate.patches else problem.judging_level
    found = recognised(problem.finest, problem.moving, estimate)
    chance = evidence.above_chance(problem.finest, problem.moving, estimate.matrix)
    blind = verdict.called(verdict.probability_wrong(found, chance, 0)) != Verdict.OK
    compare = problem.compare(level, estimate.matrix, metric)
    if problem.model == "local":
        return held.hold(compare, level, estimate, problem.landmarks, blind=blind)
    model = models.get(problem.model)
    return held.hold_global(compare, level, estimate, problem.landmarks, model, blind=blind)


def with_landmarks(quality: Quality, problem: Problem, done: Held) -> Quality:
    """The quality with the residual of every landmark, and the verdict that they allow.

    An alignment that the images do not confirm is suspect instead of failed where at least ``LEAST_KEPT``
    landmarks agree on it.
    """
    landmarks = problem.landmarks
    if landmarks is None:
        return quality
    errors = landmarks.errors(done.estimate).tolist()
    each = tuple(
        HeldLandmark(fixed=tuple(fixed), moving=tuple(moving), residual=round(error, 3), kept=kept)
        for fixed, moving, error, kept in zip(
            landmarks.fixed.tolist(), landmarks.moving.tolist(), errors, done.kept.tolist(), strict=True
        )
    )
    kept = sum(done.kept.tolist())
    figures = HeldLandmarks(sigma=round(done.sigma, 3), sigma_given=landmarks.sigma is not None, points=each)
    reasons, called = list(quality.reasons), quality.verdict
    if called == Verdict.FAILED and kept >= LEAST_KEPT and kept > LEAST_SHARE * len(each):
        called = Verdict.SUSPECT
        reasons.insert(0, f"{kept} landmarks agree on the alignment, but the images do not confirm it")
    reasons += [_outlier(number, one, done.sigma) for number, one in enumerate(each, 1) if not one.kept]
    if called == Verdict.OK and kept < len(each) * (1 - LEAST_SHARE):
        called = Verdict.SUSPECT
    return replace(quality, verdict=called, reasons=tuple(reasons), held=figures)


def _outlier(number: int, one: HeldLandmark, sigma: float) -> str:
    """The reason that names a landmark that was not used."""
    x, y = one.fixed
    return (
        f"landmark {number} at ({x:.0f}, {y:.0f}) is {one.residual:.0f} px from where the images and the "
        f"other landmarks put it (sigma {sigma:.1f} px) and was not used: check it"
    )
