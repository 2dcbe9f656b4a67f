"""What a verdict means in plain words, and what to try next: sentences with the exact command."""

import shlex
from dataclasses import fields
from typing import NamedTuple

from register.settings import Settings
from register.transforms.quality import Quality, Verdict
from register.transforms.transform import Transform

UNRECOGNISED, EMPTY, OVERLAP = (
    "matching regions are not recognised",
    "too few regions",
    "overlaps the",
)
WEAK, CAPPED, AREA, RETURN = (
    "have too little texture or similarity",
    "reached --max-shift",
    "changes areas",
    "aligned in both",
)
PARTS = "on tissue or other content"
GROUPS, PARTNERS, LOOSE = "others on another one", "have a partner", "determine the map only"
RIVAL, ALONG, BEYOND = "explains the images as well", "do not determine the shift", "more than --shift-range"
STAYS, MISSING = "equal at the same place in both images", "missing or lie elsewhere"
LANDMARK, APART = "and was not used", "regions of the two images do not overlap"
"""Parts of the reasons of a verdict, by which they are told apart."""
PLAIN = {
    RIVAL: "The content repeats itself: another shift or rotation fits as well.",
    ALONG: "The images show nothing that tells the shift in one direction.",
    BEYOND: "The only alignment that was found moves the image further than you allowed.",
    STAYS: "Something that is at the same place in both images, such as text, may have decided.",
    MISSING: "Pieces of the fixed image are missing in the moving image, or lie elsewhere there.",
    UNRECOGNISED: "Places in one image do not look like the places they were laid on in the other image.",
    EMPTY: "There is too little structure in the images to tell whether they match.",
    APART: "The parts of the images that may be used do not lie on each other.",
    OVERLAP: "Only a small part of the images lies on each other.",
    WEAK: "Most of the image has too little structure, or does not match.",
    PARTS: "The images agree in parts only: in others they do not show the same.",
    CAPPED: "The images are deformed more than the alignment was allowed to follow.",
    AREA: "The images would have to be very different in size.",
    RETURN: "Aligning the images in the other direction gives another answer.",
    GROUPS: "Some points moved in one way, and others in another.",
    PARTNERS: "Most points of one image are not in the other one.",
    LOOSE: "The points that match lie close together: far from them the alignment is not exact.",
    "landmarks agree on": "Your landmarks agree on this alignment, but the images do not confirm it.",
    LANDMARK: "One of your landmarks disagrees with the images and with the others.",
}
"""A sentence for each reason."""
MOST_STEPS = 3
VERDICTS = {
    Verdict.OK: "The same structures lie on each other wherever the images show something.",
    Verdict.SUSPECT: "The alignment may be wrong: look before you use it.",
    Verdict.FAILED: "The images could not be aligned. Do not use the aligned image.",
    Verdict.UNKNOWN: "The alignment was not assessed.",
}


class Step(NamedTuple):
    """Something to try: a sentence, and the command that does it."""

    words: str
    command: str


def plainly(quality: Quality) -> str:
    """One sentence that says why the verdict is what it is."""
    for reason in quality.reasons:
        for part, sentence in PLAIN.items():
            if part in reason:
                return sentence
    return VERDICTS[quality.verdict]


def next_steps(transform: Transform) -> list[Step]:
    """What to try, the most promising first, by the cause; nothing where the alignment is ``ok``."""
    quality, chosen = transform.quality, transform.provenance.settings
    if quality.verdict not in (Verdict.SUSPECT, Verdict.FAILED) or not transform.fixed.path:
        return []
    said, steps = " ".join(quality.reasons), []

    def add(words: str, **options: str | bool) -> None:
        steps.append(Step(words, command(transform, **options)))

    unsure = quality.verdict == Verdict.FAILED or any(x in said for x in (UNRECOGNISED, RETURN, EMPTY))
    repeats = RIVAL in said or ALONG in said
    if LANDMARK in said and chosen.get("landmarks_hold"):
        add("Correct the landmark that is named, and align again.")
    if BEYOND in said and chosen.get("shift_range"):
        add("Allow a larger shift of the image.", shift_range=_doubled(str(chosen["shift_range"])))
    if CAPPED in said:
        add("Allow a larger deformation.", max_shift=_larger(transform))
    if (unsure or repeats or WEAK in said) and not chosen.get("landmarks_hold"):
        add(
            "Mark three or more places in both images (QuPath, napari, Fiji) and hold them.",
            landmarks_hold="fixed_points.csv,moving_points.csv",
        )
    if RIVAL in said and quality.expected_error:
        add(
            "Limit the shift, if you know that the images lie nearly on each other.",
            shift_range=f"{quality.expected_error / 2:.0f}px",
        )
    if (unsure or STAYS in said) and not chosen.get("fixed_mask") and not chosen.get("moving_mask"):
        add(
            "Exclude what only one image shows, and text: polygons or a mask of the valid region.",
            fixed_mask="fixed_mask.geojson",
            moving_mask="moving_mask.geojson",
        )
    if WEAK in said and chosen.get("model", "local") == "local":
        add("Fit one affine map instead of a deformation.", model="affine")
    if unsure and _has_channels(quality) and not chosen.get("fixed_channel"):
        add(
            "Compare channels that show the same structures; register info FILE lists them.",
            fixed_channel="NAME",
            moving_channel="NAME",
        )
    if unsure and not chosen.get("allow_flip") and not quality.rejected_matrix:
        add("Allow a mirrored image.", allow_flip=True)
    return steps[:MOST_STEPS]


def command(transform: Transform, **options: str | bool) -> str:
    """The command that aligns the pair again into the folder ``corrected``, with further options."""
    given = {option.name: option for option in fields(Settings)}
    asked = {
        name: value
        for name, value in transform.provenance.settings.items()
        if name in given and value != given[name].default
    } | options
    words = ["register", "align", str(transform.fixed.path), str(transform.moving.path), "-o", "corrected"]
    for name, value in asked.items():
        flag = name.replace("_", "-")
        words += (
            [f"--{flag}" if value else f"--no-{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", str(value)]
        )
    return shlex.join(words)


def _larger(transform: Transform) -> str:
    """Twice the largest displacement that was allowed."""
    given = transform.provenance.settings.get("max_shift")
    limit = given or 0.1 * (transform.fixed.width**2 + transform.fixed.height**2) ** 0.5
    return f"{2 * limit:.0f}"


def _doubled(length: str) -> str:
    """A length with its unit, such as ``30`` or ``5µm``, twice as large."""
    number = length.rstrip("pxnmuµμ ")
    return f"{2 * float(number):g}{length[len(number) :]}"


def _has_channels(quality: Quality) -> bool:
    """Whether an image has channels to choose from."""
    return any(grey and grey not in ("gray",) for grey in (quality.fixed_grey, quality.moving_grey))
