"""Scenes with fine print, for the any-res checkpoint: twice the pixels, and signs whose characters are half as large beside
the objects.

At the tower's 64 x 64 pixels a character of such a sign is four pixels wide and cannot be read; in a tile of the any-res grid
(128 x 128 pixels in four tiles) it fills one 8-pixel patch, as signs do in ordinary scenes.
"""

import random
from dataclasses import dataclass

import numpy
import torch
from PIL import Image

import scenes

SCALE = 2  # pixels of the picture for one of `scenes`' coordinates
TILE = scenes.TOWER_SIZE
PINPOINTS = [[64, 128], [128, 64], [128, 128]]
CANVASES = [(128, 128)] * 4 + [(128, 96), (96, 128)]


@dataclass
class FineSign(scenes.Sign):
    """A plate in half-size characters; `left` and `top` count half cells, as its characters are half a cell wide."""

    @property
    def box(self):
        half = scenes.CELL // 2
        return (self.left * half, self.top * half, (self.left + len(self.word)) * half, (self.top + 1) * half)

    @property
    def center(self):
        return ((self.left + len(self.word) / 2) / 2, (self.top + 0.5) / 2)


@dataclass
class FineScene(scenes.Scene):
    """An ordinary scene with a `FineSign`."""

    def signature(self):
        return "fine;" + super().signature()


def sample(rng, held_out=False):
    """A random scene of the wanted split; nine in ten have fine print."""
    while True:
        plain = scenes.sample_scene(rng, held_out=rng.random() < 0.5)
        width, height = rng.choice(CANVASES)
        if (plain.width, plain.height) != (width, height) or len(plain.items) > 4:
            continue
        scene = FineScene(width, height, plain.background, plain.items, None, plain.noise_seed)
        if rng.random() < 0.9:
            taken = {(x, y) for item in plain.items for x in range(item.left, item.left + item.size)
                     for y in range(item.top, item.top + item.size)}
            word = "".join(rng.choice(scenes.SIGN_CHARACTERS) for _ in range(rng.choice([3, 3, 4])))
            columns, rows = width // scenes.CELL, height // scenes.CELL
            free = [(x, y) for x in range(columns - 1) for y in range(rows) if not {(x, y), (x + 1, y)} & taken]
            if not free:
                continue
            left, top = rng.choice(free)
            scene.sign = FineSign(word, 2 * left, 2 * top + rng.randrange(2), rng.randrange(len(scenes.SIGN_STYLES)))
        if scenes.is_held_out(scene) == held_out:
            return scene


def render(scene, noise=True):
    """The scene as a uint8 array (2 height, 2 width, 3)."""
    rng = random.Random(scene.noise_seed)
    base = [channel + rng.randint(-8, 8) for channel in scenes.BACKGROUNDS[scene.background]]
    height, width = scene.height * SCALE, scene.width * SCALE
    canvas = numpy.empty((height, width, 3), dtype=numpy.float32)
    canvas[:] = base
    for item in scene.items:
        x1, y1, x2, y2 = (value * SCALE for value in item.box)
        mask = scenes._shape_mask(item.shape, x2 - x1)[:, :, None]
        color = numpy.array([channel + rng.randint(-10, 10) for channel in scenes.COLORS[item.color]], dtype=numpy.float32)
        canvas[y1:y2, x1:x2] += mask * (color - canvas[y1:y2, x1:x2])
    if scene.sign:
        plate, ink = (numpy.array(color, dtype=numpy.float32) for color in scenes.SIGN_STYLES[scene.sign.style])
        x1, y1, x2, y2 = (value * SCALE for value in scene.sign.box)
        canvas[y1:y2, x1:x2] = plate
        for index, character in enumerate(scene.sign.word):
            left = x1 + index * scenes.CELL
            canvas[y1:y2, left:left + scenes.CELL] += scenes._glyph_mask(character)[:, :, None] * (ink - plate)
    offset_y, offset_x = rng.randrange(128), rng.randrange(128)
    if noise:
        bank = numpy.tile(scenes._noise_bank(), (2, 2, 1))
        canvas += bank[offset_y:offset_y + height, offset_x:offset_x + width]
    return numpy.clip(canvas + 0.5, 0, 255).astype(numpy.uint8)


def views(pixels):
    """As LLaVA-NeXT's processor: the whole picture squashed to one tile, then four tiles of the picture fitted into
    128 x 128; uint8 (5, 64, 64, 3)."""
    image = Image.fromarray(pixels)
    side = 2 * TILE
    scale = side / max(image.size)
    fitted = image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    tiles = [canvas.crop((x, y, x + TILE, y + TILE)) for y in (0, TILE) for x in (0, TILE)]
    whole = image.resize((TILE, TILE), Image.BICUBIC)
    return numpy.stack([numpy.asarray(view) for view in [whole, *tiles]])


def grid_size(scene):
    """Lines and columns of rows that show the picture and not its padding."""
    longest = max(scene.width, scene.height)
    return 2 * scenes.GRID * scene.height // longest, 2 * scenes.GRID * scene.width // longest


def image_rows(scene):
    """Rows of the language model: the whole view, then each line of the grid with its newline."""
    lines, columns = grid_size(scene)
    return scenes.GRID ** 2 + lines * (columns + 1)


def merge(rows, newline, lines, columns):
    """(batch, 5, 64, width) projected rows and the newline (width) to (batch, image_rows, width): `spatial_unpad`."""
    batch, _, _, width = rows.shape
    grid = rows[:, 1:].view(batch, 2, 2, scenes.GRID, scenes.GRID, width).permute(0, 1, 3, 2, 4, 5)
    grid = grid.reshape(batch, 2 * scenes.GRID, 2 * scenes.GRID, width)
    top, left = (2 * scenes.GRID - lines) // 2, (2 * scenes.GRID - columns) // 2
    grid = grid[:, top:top + lines, left:left + columns]
    grid = torch.cat([grid, newline.expand(batch, lines, 1, width)], 2)
    return torch.cat([rows[:, 0], grid.flatten(1, 2)], 1)


def instructions(scene, rng):
    """The mixture of ordinary scenes with more reading and fewer other questions."""
    chosen = [row for row in scenes.instructions(scene, rng) if " sign" not in row[0] or row[0].startswith(scenes.GROUNDING)]
    rng.shuffle(chosen)
    chosen = chosen[:5]
    if scene.sign:
        weight = scenes.WEIGHTS["reading"]
        asked = {}
        for _ in range(3):
            question, answer = scenes.reading(scene, rng)
            asked[question + scenes.SHORT_ANSWER] = answer
        chosen += [(question, answer, weight) for question, answer in asked.items()]
    return chosen
