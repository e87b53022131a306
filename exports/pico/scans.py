"""Synthetic grey "scans" with findings, and questions in the manner of VQA-RAD, for the medical checkpoint.

They look like radiographs only from afar: a body outline, organs, and findings of four kinds at known places. Sides are
sides of the image.
"""

import random
import zlib
from dataclasses import dataclass, field

import numpy
from PIL import Image, ImageDraw

import scenes

SIZE = 128
MODALITIES = ["x-ray", "ct", "mri"]
ORGANS = {"x-ray": "chest", "ct": "abdomen", "mri": "head"}
FINDINGS = {"nodule": "circle", "cavity": "ring", "stone": "diamond", "clip": "cross"}
BODY = {"x-ray": 120, "ct": 140, "mri": 160}


@dataclass
class Finding:
    """One finding on the grid of `scenes`."""

    kind: str
    left: int
    top: int
    size: int

    @property
    def side(self):
        return "left" if self.left + self.size / 2 < 4 else "right"

    @property
    def zone(self):
        return "top" if self.top + self.size / 2 < 4 else "bottom"


@dataclass
class Scan:
    """A scan and what it shows."""

    modality: str
    findings: list = field(default_factory=list)
    seed: int = 0

    def signature(self):
        return self.modality + ";".join(sorted(f"{f.kind}{f.left},{f.top},{f.size}" for f in self.findings))


def is_held_out(scan):
    """True for the eighth of all scans that only benchmarks and validation may use."""
    return zlib.crc32(scan.signature().encode()) % 8 == 0


def sample(rng, held_out=False):
    """A random scan of the wanted split."""
    while True:
        scan = Scan(rng.choice(MODALITIES), seed=rng.randrange(1 << 30))
        taken = set()
        for _ in range(rng.choice([0, 1, 1, 2, 2, 3])):
            size = rng.choice([2, 2, 3])
            left, top = rng.randrange(1, 8 - size), rng.randrange(1, 8 - size)
            cells = {(x, y) for x in range(left, left + size) for y in range(top, top + size)}
            # A finding on the middle line has no side.
            if cells & taken or left + size / 2 == 4 or top + size / 2 == 4:
                continue
            taken |= cells
            scan.findings.append(Finding(rng.choice(list(FINDINGS)), left, top, size))
        # An empty scan differs from others of its kind in noise only, so it is in both splits.
        if not scan.findings or is_held_out(scan) == held_out:
            return scan


def render(scan):
    """The scan as a uint8 array (128, 128): one grey channel."""
    rng = random.Random(scan.seed)
    level = BODY[scan.modality] + rng.randint(-6, 6)
    image = Image.new("L", (SIZE, SIZE), 60)
    draw = ImageDraw.Draw(image)
    if scan.modality == "x-ray":
        draw.rectangle((4, 4, 123, 123), fill=level + 20)
        draw.ellipse((10, 8, 58, 120), fill=level)
        draw.ellipse((70, 8, 118, 120), fill=level)
    elif scan.modality == "ct":
        draw.ellipse((2, 2, 125, 125), fill=level)
        draw.ellipse((56, 100, 72, 116), fill=level + 60)
    else:
        draw.ellipse((2, 2, 125, 125), fill=level + 60)
        draw.ellipse((8, 8, 119, 119), fill=level)
    canvas = numpy.asarray(image, dtype=numpy.float32).copy()
    for finding in scan.findings:
        x, y, side = finding.left * scenes.CELL, finding.top * scenes.CELL, finding.size * scenes.CELL
        mask = scenes._shape_mask(FINDINGS[finding.kind], side)
        canvas[y:y + side, x:x + side] += mask * (248 - canvas[y:y + side, x:x + side])
    offset_y, offset_x = rng.randrange(128), rng.randrange(128)
    canvas += scenes._noise_bank()[offset_y:offset_y + SIZE, offset_x:offset_x + SIZE, 0]
    return numpy.clip(canvas + 0.5, 0, 255).astype(numpy.uint8)


def _yes(value):
    return "yes" if value else "no"


def questions(scan, rng):
    """All questions that fit: list of (question, answer, answer type, question type), closed and open."""
    found, kinds = [], [finding.kind for finding in scan.findings]

    def closed(question, truth, kind):
        found.append((question, _yes(truth), "CLOSED", kind))

    def open_ended(question, answer, kind):
        found.append((question, answer, "OPEN", kind))

    asked = rng.choice(list(FINDINGS)) if rng.random() < 0.5 or not kinds else rng.choice(kinds)
    closed(f"Is there a {asked} in the image?", asked in kinds, "PRES")
    side = rng.choice(["left", "right"])
    closed(f"Is there a lesion on the {side} side?", any(f.side == side for f in scan.findings), "PRES")
    closed("Is this scan normal?", not scan.findings, "ABN")
    modality = rng.choice(MODALITIES)
    closed(f"Is this an {modality}?" if modality in ("x-ray", "mri") else f"Is this a {modality}?", modality == scan.modality, "MODALITY")
    closed("Is there more than one lesion?", len(scan.findings) > 1, "COUNT")
    open_ended("What kind of scan is this?", scan.modality, "MODALITY")
    open_ended("Which part of the body is shown?", ORGANS[scan.modality], "ORGAN")
    open_ended("How many lesions are there?", str(len(scan.findings)), "COUNT")
    for finding in scan.findings:
        if kinds.count(finding.kind) == 1:
            open_ended(f"Where is the {finding.kind}?", f"{finding.zone} {finding.side}", "POS")
            open_ended(f"Is the {finding.kind} small or large?", "large" if finding.size == 3 else "small", "SIZE")
    if len(scan.findings) == 1:
        open_ended("What abnormality is seen?", scan.findings[0].kind, "ABN")
    rng.shuffle(found)
    return found
