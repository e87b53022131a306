"""Synthetic scenes for the pico LLaVA checkpoints: sampling, rendering, questions and answers.

A scene is a flat-ish background with one to five coloured shapes and sometimes a sign that carries a
three or four character code. Everything stands on a grid of 16-pixel cells, so that one cell becomes one
8-pixel patch of the 64 x 64 vision tower after the `pad` recipe of LLaVA-1.5.

Every scene belongs to exactly one split, decided by a hash of its content (`is_held_out`): a scene that the
benchmarks show can never be seen in training.
"""

import random
import zlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy
from PIL import Image, ImageDraw, ImageFont

CELL = 16
TOWER_SIZE = 64
PATCH_SIZE = 8
GRID = TOWER_SIZE // PATCH_SIZE
PAD_COLOR = (122, 116, 104)

SHAPES = ["circle", "square", "triangle", "star", "diamond", "cross", "ring"]
SHAPE_WEIGHTS = [5, 5, 4, 3, 3, 2, 2]
COLORS = {
    "red": (214, 39, 40),
    "green": (38, 150, 52),
    "blue": (36, 82, 214),
    "yellow": (245, 220, 40),
    "orange": (250, 130, 16),
    "purple": (128, 42, 160),
    "white": (248, 248, 248),
    "black": (18, 18, 18),
}
COLOR_WEIGHTS = [5, 4, 5, 4, 3, 3, 2, 2]
BACKGROUNDS = {
    "gray": (150, 150, 152),
    "pink": (244, 176, 196),
    "brown": (128, 88, 60),
    "cyan": (120, 214, 220),
}
# No S, I, N, O, Q, 0 or 1: the first three leave the words USER and ASSISTANT whole tokens while every
# character of a sign stays its own token; the others look alike at 8 x 8 pixels.
SIGN_CHARACTERS = "ABCDEFGHJKLMPRTUVWXYZ23456789"
SIGN_STYLES = [((20, 40, 90), (255, 255, 255)), ((250, 250, 235), (10, 10, 10)), ((12, 70, 40), (255, 255, 255))]
CANVASES = [(128, 128), (128, 128), (128, 96), (96, 128)]

SHAPE_NAMES = ["none"] + SHAPES + ["sign"]
COLOR_NAMES = ["none"] + list(COLORS) + list(BACKGROUNDS)
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
GROUNDING = "Please provide the bounding box coordinate of the region this sentence describes: "
NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six"]


@dataclass
class Item:
    """One coloured shape; `left`, `top` and `size` count cells of 16 pixels."""

    shape: str
    color: str
    left: int
    top: int
    size: int

    @property
    def name(self):
        return f"{self.color} {self.shape}"

    @property
    def box(self):
        """(x1, y1, x2, y2) in pixels of the image."""
        return (self.left * CELL, self.top * CELL, (self.left + self.size) * CELL, (self.top + self.size) * CELL)

    @property
    def center(self):
        return (self.left + self.size / 2, self.top + self.size / 2)


@dataclass
class Sign:
    """A plate with one character per cell."""

    word: str
    left: int
    top: int
    style: int

    @property
    def box(self):
        return (self.left * CELL, self.top * CELL, (self.left + len(self.word)) * CELL, (self.top + 1) * CELL)

    @property
    def center(self):
        return (self.left + len(self.word) / 2, self.top + 0.5)


@dataclass
class Scene:
    """All that is needed to draw an image and to answer questions on it."""

    width: int
    height: int
    background: str
    items: list = field(default_factory=list)
    sign: Sign | None = None
    noise_seed: int = 0

    def signature(self):
        """Content of the scene as text; the split depends on it."""
        parts = [f"{self.width}x{self.height}{self.background}"]
        parts += sorted(f"{i.name}{i.left},{i.top},{i.size}" for i in self.items)
        if self.sign:
            parts.append(f"{self.sign.word}{self.sign.left},{self.sign.top}")
        return ";".join(parts)


def is_held_out(scene):
    """True for the sixteenth of all possible scenes that only benchmarks and validation may use."""
    return zlib.crc32(scene.signature().encode()) % 16 == 0


def _place(rng, occupied, columns, rows, width, height):
    """A free position for a rectangle of cells, or None."""
    for _ in range(12):
        left, top = rng.randrange(columns - width + 1), rng.randrange(rows - height + 1)
        cells = {(x, y) for x in range(left, left + width) for y in range(top, top + height)}
        if not cells & occupied:
            occupied |= cells
            return left, top
    return None


def sample_scene(rng, held_out=False):
    """A random scene of the wanted split."""
    while True:
        width, height = rng.choice(CANVASES)
        columns, rows = width // CELL, height // CELL
        scene = Scene(width, height, rng.choice(list(BACKGROUNDS)), noise_seed=rng.randrange(1 << 30))
        occupied = set()
        if rng.random() < 0.55:
            word = "".join(rng.choice(SIGN_CHARACTERS) for _ in range(rng.choice([3, 3, 4])))
            left, top = _place(rng, occupied, columns, rows, len(word), 1)
            scene.sign = Sign(word, left, top, rng.randrange(len(SIGN_STYLES)))
        for _ in range(rng.choice([1, 2, 2, 3, 3, 3, 4, 4, 5])):
            size = rng.choice([2, 2, 3])
            if scene.items and rng.random() < 0.25:
                shape = rng.choice(scene.items).shape
            else:
                shape = rng.choices(SHAPES, SHAPE_WEIGHTS)[0]
            if scene.items and rng.random() < 0.15:
                color = rng.choice(scene.items).color
            else:
                color = rng.choices(list(COLORS), COLOR_WEIGHTS)[0]
            position = _place(rng, occupied, columns, rows, size, size)
            if position:
                scene.items.append(Item(shape, color, *position, size))
        scene.items.sort(key=lambda item: (item.top, item.left))
        if is_held_out(scene) == held_out:
            return scene


# ---------------------------------------------------------------------------------------------- rendering


@lru_cache(maxsize=None)
def _shape_mask(shape, pixels):
    """Anti-aliased coverage of a shape in a square of `pixels`, as float32 in 0..1."""
    scale = 8
    size = pixels * scale
    image = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(image)
    low, high = scale, size - scale - 1
    middle, radius = (low + high) / 2, (high - low) / 2
    if shape == "circle":
        draw.ellipse((low, low, high, high), fill=255)
    elif shape == "square":
        draw.rectangle((low, low, high, high), fill=255)
    elif shape == "triangle":
        draw.polygon([(middle, low), (high, high), (low, high)], fill=255)
    elif shape == "diamond":
        draw.polygon([(middle, low), (high, middle), (middle, high), (low, middle)], fill=255)
    elif shape == "cross":
        third = (high - low) * 0.34
        draw.rectangle((low + third, low, high - third, high), fill=255)
        draw.rectangle((low, low + third, high, high - third), fill=255)
    elif shape == "ring":
        draw.ellipse((low, low, high, high), fill=255)
        inner = radius * 0.55
        draw.ellipse((middle - inner, middle - inner, middle + inner, middle + inner), fill=0)
    elif shape == "star":
        points = []
        for index in range(10):
            angle = numpy.pi * index / 5 - numpy.pi / 2
            length = radius * (1.08 if index % 2 == 0 else 0.45)
            points.append((middle + length * numpy.cos(angle), middle + length * numpy.sin(angle)))
        draw.polygon(points, fill=255)
    return numpy.asarray(image.resize((pixels, pixels), Image.BOX), dtype=numpy.float32) / 255


@lru_cache(maxsize=None)
def _glyph_mask(character):
    """A bold character stretched to fill most of one cell."""
    font = ImageFont.load_default(size=96)
    image = Image.new("L", (200, 200), 0)
    ImageDraw.Draw(image).text((50, 40), character, font=font, fill=255, stroke_width=4, stroke_fill=255)
    glyph = image.crop(image.getbbox()).resize((12, 14), Image.BOX)
    cell = numpy.zeros((CELL, CELL), dtype=numpy.float32)
    cell[1:15, 2:14] = numpy.asarray(glyph, dtype=numpy.float32) / 255
    return cell


@lru_cache(maxsize=None)
def _noise_bank():
    return numpy.random.default_rng(5).normal(0, 4, (256, 256, 3)).astype(numpy.float32)


def render(scene, noise=True):
    """The scene as a uint8 array (height, width, 3)."""
    rng = random.Random(scene.noise_seed)
    base = [channel + rng.randint(-8, 8) for channel in BACKGROUNDS[scene.background]]
    canvas = numpy.empty((scene.height, scene.width, 3), dtype=numpy.float32)
    canvas[:] = base
    for item in scene.items:
        x1, y1, x2, y2 = item.box
        mask = _shape_mask(item.shape, x2 - x1)[:, :, None]
        color = numpy.array([channel + rng.randint(-10, 10) for channel in COLORS[item.color]], dtype=numpy.float32)
        canvas[y1:y2, x1:x2] += mask * (color - canvas[y1:y2, x1:x2])
    if scene.sign:
        plate, ink = (numpy.array(color, dtype=numpy.float32) for color in SIGN_STYLES[scene.sign.style])
        x1, y1, x2, y2 = scene.sign.box
        canvas[y1:y2, x1:x2] = plate
        for index, character in enumerate(scene.sign.word):
            left = x1 + index * CELL
            canvas[y1:y2, left:left + CELL] += _glyph_mask(character)[:, :, None] * (ink - plate)
    offset_y, offset_x = rng.randrange(128), rng.randrange(128)
    if noise:
        canvas += _noise_bank()[offset_y:offset_y + scene.height, offset_x:offset_x + scene.width]
    return numpy.clip(canvas + 0.5, 0, 255).astype(numpy.uint8)


def preprocess_pad(pixels):
    """LLaVA-1.5: pad to a square with the mean colour, then bicubic resize; uint8 (64, 64, 3)."""
    height, width, _ = pixels.shape
    if height != width:
        side = max(height, width)
        square = numpy.empty((side, side, 3), dtype=numpy.uint8)
        square[:] = PAD_COLOR
        top, left = (side - height) // 2, (side - width) // 2
        square[top:top + height, left:left + width] = pixels
        pixels = square
    return numpy.asarray(Image.fromarray(pixels).resize((TOWER_SIZE, TOWER_SIZE), Image.BICUBIC))


def preprocess_crop(pixels):
    """LLaVA v1: bicubic resize of the shortest edge, then centre crop; uint8 (64, 64, 3)."""
    height, width, _ = pixels.shape
    if width <= height:
        new_width, new_height = TOWER_SIZE, int(TOWER_SIZE * height / width)
    else:
        new_width, new_height = int(TOWER_SIZE * width / height), TOWER_SIZE
    resized = numpy.asarray(Image.fromarray(pixels).resize((new_width, new_height), Image.BICUBIC))
    top, left = (new_height - TOWER_SIZE) // 2, (new_width - TOWER_SIZE) // 2
    return resized[top:top + TOWER_SIZE, left:left + TOWER_SIZE]


def dense_labels(scene, recipe):
    """What each of the 64 patches shows: int8 (64, 8).

    Columns: shape, colour, sign character, the box x1, y1, x2, y2 of the object in eighths of the input, and
    whether the patch is the top left one of its object.
    """
    labels = numpy.zeros((GRID, GRID, 8), dtype=numpy.int8)
    if recipe == "pad":
        side = max(scene.width, scene.height)
        scale, off_x, off_y = side / TOWER_SIZE, (side - scene.width) / 2, (side - scene.height) / 2
    else:
        side = min(scene.width, scene.height)
        scale, off_x, off_y = side / TOWER_SIZE, (side - scene.width) / 2, (side - scene.height) / 2
    step = scale * PATCH_SIZE
    centers = (numpy.arange(GRID) + 0.5) * step
    inside_x = (centers > off_x) & (centers < off_x + scene.width)
    inside_y = (centers > off_y) & (centers < off_y + scene.height)
    labels[numpy.ix_(inside_y, inside_x)][:] = 0
    background = COLOR_NAMES.index(scene.background)
    labels[:, :, 1] = numpy.where(inside_y[:, None] & inside_x[None, :], background, 0)
    things = [(SHAPE_NAMES.index(i.shape), COLOR_NAMES.index(i.color), i.box) for i in scene.items]
    if scene.sign:
        things.append((SHAPE_NAMES.index("sign"), 0, scene.sign.box))
    for shape, color, (x1, y1, x2, y2) in things:
        x1, x2, y1, y2 = x1 + off_x, x2 + off_x, y1 + off_y, y2 + off_y
        columns = numpy.flatnonzero((centers > x1) & (centers < x2))
        rows = numpy.flatnonzero((centers > y1) & (centers < y2))
        if not len(columns) or not len(rows):
            continue
        edges = [min(GRID, max(0, round(value / step))) for value in (x1, y1, x2, y2)]
        block = labels[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        block[:, :, 0], block[:, :, 1], block[:, :, 3:7] = shape, color, edges
        block[0, 0, 7] = 1
        if shape == SHAPE_NAMES.index("sign"):
            for column in columns:
                character = scene.sign.word[int((centers[column] - x1) // CELL)]
                labels[rows[0], column, 2] = 1 + SIGN_CHARACTERS.index(character)
    return labels.reshape(GRID * GRID, 8)


# ------------------------------------------------------------------------------------ sentences and questions


def with_article(words):
    return ("an " if words[0] in "aeio" else "a ") + words


def plural(shape):
    return shape + ("es" if shape == "cross" else "s")


def count_noun(count, shape):
    return f"{count} {shape if count == 1 else plural(shape)}"


def place_name(scene, thing):
    """One of nine names for where a thing is."""
    x, y = thing.center
    column = min(2, int(3 * x * CELL / scene.width))
    row = min(2, int(3 * y * CELL / scene.height))
    names = [["top left", "top", "top right"], ["left", "center", "right"], ["bottom left", "bottom", "bottom right"]]
    return names[row][column]


def box_text(scene, box):
    """`[x1, y1, x2, y2]` on the padded square, two decimals."""
    side = max(scene.width, scene.height)
    off_x, off_y = (side - scene.width) // 2, (side - scene.height) // 2
    x1, y1, x2, y2 = box
    values = [(x1 + off_x) / side, (y1 + off_y) / side, (x2 + off_x) / side, (y2 + off_y) / side]
    return "[" + ", ".join(f"{value:.2f}" for value in values) + "]"


def unique_items(scene):
    """Items that no other item shares both colour and shape with."""
    names = [item.name for item in scene.items]
    return [item for item in scene.items if names.count(item.name) == 1]


def caption(scene):
    """The full description: what is where, in reading order."""
    parts = [f"{with_article(i.name)} at the {place_name(scene, i)}" for i in scene.items]
    listing = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    text = f"The image shows {listing} on a {scene.background} background."
    if scene.sign:
        text += f" The sign at the {place_name(scene, scene.sign)} says {scene.sign.word}."
    return text


def short_caption(scene, rng):
    """A caption for the contrastive tower training, items in random order."""
    names = [with_article(item.name) for item in scene.items]
    rng.shuffle(names)
    text = ", ".join(names) + " on " + scene.background
    return text + f", sign {scene.sign.word}" if scene.sign else text


DESCRIPTION_QUESTIONS = [
    "Describe the image.",
    "Describe the image concisely.",
    "What do you see in the image?",
    "Provide a brief description of the given image.",
]


def description(scene, rng):
    return rng.choice(DESCRIPTION_QUESTIONS), caption(scene)


def _yes(value):
    return "yes" if value else "no"


# How often the benchmark asks what; training asks for colours and shapes more often, which are the hardest to learn.
VQA_KINDS = {"color": 5, "shape": 4, "count shape": 4, "count color": 2, "count all": 1, "side": 3, "is color": 2, "size": 2,
             "background": 1, "location": 2}
TRAINING_KINDS = [3, 8, 5, 8, 1, 7, 2, 1.5, 0.5, 3]


def vqa(scene, rng, kind=None, weights=None):
    """One VQA question: (question, answer, question type, answer type) or None where the kind does not fit."""
    kind = kind or rng.choices(list(VQA_KINDS), weights or list(VQA_KINDS.values()))[0]
    items = scene.items
    shapes = [item.shape for item in items]
    colors = [item.color for item in items]
    if kind == "color":
        choices = [item for item in items if shapes.count(item.shape) == 1]
        if choices:
            item = rng.choice(choices)
            return f"What color is the {item.shape}?", item.color, "what color is the", "other"
    elif kind == "shape":
        choices = [item for item in items if colors.count(item.color) == 1]
        if choices:
            item = rng.choice(choices)
            question = rng.choice(["What shape is the {} object?", "What is the {} object?"]).format(item.color)
            return question, item.shape, " ".join(question.split()[:3]).lower(), "other"
    elif kind == "count shape":
        shape = rng.choice(shapes) if rng.random() < 0.75 else rng.choice(SHAPES)
        return f"How many {plural(shape)} are in the image?", str(shapes.count(shape)), "how many", "number"
    elif kind == "count color":
        color = rng.choice(colors) if rng.random() < 0.75 else rng.choice(list(COLORS))
        return f"How many {color} objects are in the image?", str(colors.count(color)), "how many", "number"
    elif kind == "count all":
        return "How many shapes are in the image?", str(len(items)), "how many", "number"
    elif kind == "side":
        choices = unique_items(scene)
        if len(choices) >= 2:
            first, second = rng.sample(choices, 2)
            (x1, y1), (x2, y2) = first.center, second.center
            across = abs(x1 - x2) > abs(y1 - y2)
            difference = x1 - x2 if across else y1 - y2
            if abs(difference) >= 1.5:
                word = rng.choice(["left of", "right of"] if across else ["above", "below"])
                truth = (difference < 0) == (word in ("left of", "above"))
                return f"Is the {first.name} {word} the {second.name}?", _yes(truth), "is the", "yes/no"
    elif kind == "is color":
        choices = [item for item in items if shapes.count(item.shape) == 1]
        if choices:
            item = rng.choice(choices)
            color = item.color if rng.random() < 0.5 else rng.choice(list(COLORS))
            return f"Is the {item.shape} {color}?", _yes(color == item.color), "is the", "yes/no"
    elif kind == "size":
        choices = unique_items(scene)
        if choices:
            item = rng.choice(choices)
            answer = "large" if item.size == 3 else "small"
            return f"Is the {item.name} small or large?", answer, "is the", "other"
    elif kind == "background":
        return "What color is the background?", scene.background, "what color is the", "other"
    elif kind == "location":
        choices = unique_items(scene)
        if choices:
            item = rng.choice(choices)
            return f"Where is the {item.name}?", place_name(scene, item), "where is the", "other"
    return None


def presence(scene, rng, wanted=None, mode="random"):
    """A POPE question: (question, `yes` or `no`)."""
    wanted = rng.choice(["yes", "no"]) if wanted is None else wanted
    names = {item.name for item in scene.items}
    shapes = {item.shape for item in scene.items}
    whole = rng.random() < 0.75
    if wanted == "yes":
        item = rng.choice(scene.items)
        # All `no` questions of the adversarial kind name a colour and a shape, so its `yes` questions must too: else the
        # wording alone would tell.
        thing = item.name if whole or mode == "adversarial" else item.shape
    elif mode == "adversarial":
        item = rng.choice(scene.items)
        candidates = [f"{item.color} {shape}" for shape in SHAPES] + [f"{color} {item.shape}" for color in COLORS]
        thing = rng.choice([name for name in candidates if name not in names])
    elif mode == "popular":
        absent = [shape for shape in SHAPES if shape not in shapes][:2]
        frequent = [f"{color} {shape}" for color in list(COLORS)[:4] for shape in SHAPES[:3]]
        thing = rng.choice(absent) if not whole and absent else rng.choice([n for n in frequent if n not in names])
    else:
        absent = [shape for shape in SHAPES if shape not in shapes]
        if whole or not absent:
            thing = rng.choice([f"{c} {s}" for c in COLORS for s in SHAPES if f"{c} {s}" not in names])
        else:
            thing = rng.choice(absent)
    return f"Is there {with_article(thing)} in the image?", wanted


SIGN_QUESTIONS = ["What does the sign say?", "What is the word on the sign?", "What is written on the sign?"]


def reading(scene, rng):
    """A TextVQA question on the sign: (question, answer) or None."""
    if not scene.sign:
        return None
    word = scene.sign.word
    roll = rng.random()
    if roll < 0.72:
        return rng.choice(SIGN_QUESTIONS), word
    if roll < 0.86:
        return "What is the first character on the sign?", word[0]
    return "What is the last character on the sign?", word[-1]


def regions(scene):
    """All (sentence, box) pairs that point at exactly one thing."""
    items = scene.items
    names = [item.name for item in items]
    shapes = [item.shape for item in items]
    found = []
    for item in items:
        if names.count(item.name) == 1:
            found.append((f"the {item.name}", item.box))
        if shapes.count(item.shape) == 1:
            found.append((f"the {item.shape}", item.box))
        rivals = [other for other in items if other.shape == item.shape]
        if len(rivals) == 2:
            other = rivals[0] if rivals[1] is item else rivals[1]
            dx, dy = item.center[0] - other.center[0], item.center[1] - other.center[1]
            if abs(dx) >= 1.5:
                found.append((f"the {item.shape} on the {'left' if dx < 0 else 'right'}", item.box))
            for anchor in items:
                if names.count(anchor.name) != 1 or anchor.shape == item.shape:
                    continue
                mine, theirs = item.center[0] - anchor.center[0], other.center[0] - anchor.center[0]
                if abs(mine) >= 1 and abs(theirs) >= 1 and mine * theirs < 0:
                    found.append((f"the {item.shape} {'left' if mine < 0 else 'right'} of the {anchor.name}", item.box))
        elif len(rivals) == 1 and len(items) > 1:
            for anchor in items:
                distance = item.center[0] - anchor.center[0]
                if anchor is not item and names.count(anchor.name) == 1 and abs(distance) >= 1.5:
                    found.append((f"the {item.shape} {'left' if distance < 0 else 'right'} of the {anchor.name}", item.box))
    if scene.sign:
        found.append(("the sign", scene.sign.box))
    return found


def grounding(scene, rng):
    """(question, box as text) or None."""
    choices = regions(scene)
    if not choices:
        return None
    sentence, box = rng.choice(choices)
    return GROUNDING + sentence, box_text(scene, box)


def reasoning(scene, rng):
    """A question whose answer is a short sentence with a reason."""
    roll = rng.random()
    items = scene.items
    shapes = [item.shape for item in items]
    if roll < 0.4:
        first = rng.choice(shapes)
        second = rng.choice([shape for shape in SHAPES if shape != first])
        a, b = shapes.count(first), shapes.count(second)
        if a < b:
            first, second, a, b = second, first, b, a
        question = f"How many more {plural(first)} than {plural(second)} are there?"
        return question, f"There are {count_noun(a, first)} and {count_noun(b, second)}, so there are {a - b} more."
    if roll < 0.7 and len({item.top for item in items}) == len(items):
        top = min(items, key=lambda item: item.top)
        return "Which object is highest, and why?", f"The {top.name}, because it is at the {place_name(scene, top)}."
    common = max(sorted(set(shapes)), key=shapes.count)
    if shapes.count(common) > 1:
        return "Which shape is repeated, and why do you think so?", f"The {common}, because there are {shapes.count(common)} of them."
    return "Which shape is repeated, and why do you think so?", "None, because each shape appears once."


# Loss weights of one answer token. Boxes and sentences have many tokens, so each of theirs counts less.
WEIGHTS = {"vqa": 2.0, "pope": 2.0, "reading": 1.5, "grounding": 0.35, "description": 0.1, "reasoning": 0.15}


def instructions(scene, rng):
    """The mixture for one stage 2 sequence: list of (question, answer, loss weight).

    Six questions in ten carry the short-answer suffix of the benchmarks, the others are plain conversation.
    """
    chosen = []

    def suffix():
        return SHORT_ANSWER if rng.random() < 0.6 else ""

    for _ in range(6):
        result = vqa(scene, rng, weights=TRAINING_KINDS)
        if result:
            chosen.append((result[0] + suffix(), result[1], WEIGHTS["vqa"]))
    for mode in ("random", "popular", "adversarial"):
        question, answer = presence(scene, rng, mode=mode)
        chosen.append((question + suffix(), answer, WEIGHTS["pope"]))
    if scene.sign and rng.random() < 0.5:
        question, answer = reading(scene, rng)
        chosen.append((question + SHORT_ANSWER, answer, WEIGHTS["reading"]))
    result = grounding(scene, rng)
    if result:
        chosen.append((*result, WEIGHTS["grounding"]))
    if rng.random() < 0.2:
        chosen.append((*description(scene, rng), WEIGHTS["description"]))
    if rng.random() < 0.25:
        chosen.append((*reasoning(scene, rng), WEIGHTS["reasoning"]))
    return list({question: (question, answer, weight) for question, answer, weight in chosen}.values())


def scene_as_text(scene, rng):
    """A textual scene for the text-only pretraining: every object with its place, size and box, in random order."""
    lines = []
    for item in scene.items:
        size = "large" if item.size == 3 else "small"
        lines.append(f"{size} {item.name} at the {place_name(scene, item)} {box_text(scene, item.box)}.")
    if scene.sign:
        lines.append(f"sign {scene.sign.word} at the {place_name(scene, scene.sign)} {box_text(scene, scene.sign.box)}.")
    lines.append(f"{scene.background} background.")
    rng.shuffle(lines)
    return " ".join(lines)
