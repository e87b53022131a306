"""What the original repositories do with images, by formula: `mm_utils.py` (process_images) and `llava_arch.py`
(prepare_inputs_labels_for_multimodal) of haotian-liu/LLaVA c121f04 and LLaVA-NeXT df17966, written anew for one prompt.
"""

import math
import re

import numpy as np
import torch
from PIL import Image


def pinpoints_of(config):
    """Sizes (width, height)."""
    value = config.pinpoints
    if isinstance(value, str) and "x" in value:
        first, *_, last = [tuple(map(int, pair)) for pair in re.findall(r"\((\d+)x(\d+)\)", value)]
        pairs = [(i, j) for i in range(first[0], last[0] + 1) for j in range(first[1], last[1] + 1)]
        return [(i * config.image_size, j * config.image_size) for i, j in pairs]
    if isinstance(value, str):
        return [tuple(map(int, pair)) for pair in re.findall(r"\((\d+), *(\d+)\)", value)]
    return [tuple(pair) for pair in value]


def best_resolution(size, sizes):
    width, height = size
    best, most, least_waste = None, 0, math.inf
    for target_width, target_height in sizes:
        scale = min(target_width / width, target_height / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        waste = target_width * target_height - used
        if used > most or (used == most and waste < least_waste):
            best, most, least_waste = (target_width, target_height), used, waste
    return best


def fit(image, target):
    """Resized to fill one side of the target, on black."""
    scale_width, scale_height = target[0] / image.width, target[1] / image.height
    if scale_width < scale_height:
        size = (target[0], min(math.ceil(image.height * scale_width), target[1]))
    else:
        size = (min(math.ceil(image.width * scale_height), target[0]), target[1])
    canvas = Image.new("RGB", target, (0, 0, 0))
    canvas.paste(image.resize(size), ((target[0] - size[0]) // 2, (target[1] - size[1]) // 2))
    return canvas


def square(image, mean):
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), tuple(int(value * 255) for value in mean))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def siglip_pixels(image, size):
    """`SigLipImageProcessor`: straight to the tower's size."""
    resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return torch.from_numpy((resized * np.float32(1 / 255) - 0.5) / 0.5).permute(2, 0, 1)


def pixels_of(image, config, preprocess, mean, tiled):
    """Tiles `[tiles, 3, size, size]`."""
    if not tiled:
        pad = config.pad or (config.ratio or "").startswith("anyres_max")
        return torch.stack([preprocess(square(image, mean) if pad else image)])
    canvas, side = fit(image, best_resolution(image.size, pinpoints_of(config))), config.image_size
    corners = [(x, y) for y in range(0, canvas.height, side) for x in range(0, canvas.width, side)]
    views = [image.resize((side, side))] + [canvas.crop((x, y, x + side, y + side)) for x, y in corners]
    return torch.stack([preprocess(view) for view in views])


def unpad(grid, size):
    width, height = size
    rows, columns = grid.shape[1:]
    if width / height > columns / rows:
        padding = (rows - int(height * (columns / width))) // 2
        return grid[:, padding : rows - padding]
    padding = (columns - int(width * (rows / height))) // 2
    return grid[:, :, padding : columns - padding]


def merge(features, size, config, newline):
    """Rows of one image from the projected features `[tiles, rows, width]` of its tiles."""
    kind = config.merge or "flat"
    if kind == "flat":
        return features.flatten(0, 1)
    if len(features) == 1:
        return torch.cat((features[0], newline[None])) if "unpad" in kind else features[0]
    base, tiles = features[0], features[1:]
    side = config.image_size // config.patch_size
    columns, rows = (length // config.image_size for length in best_resolution(size, pinpoints_of(config)))
    grid = tiles.view(rows, columns, side, side, -1).permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2, 3)
    if "maxpool2x2" in kind:
        grid = torch.nn.functional.max_pool2d(grid, 2)
    elif "unpad" in kind:
        grid = unpad(grid, size)
        maximum = re.match(r"anyres_max_(\d+)", config.ratio)
        if maximum:
            times = math.sqrt(grid.shape[1] * grid.shape[2] / (int(maximum.group(1)) * side**2))
            if times > 1.1:
                target = [int(grid.shape[1] // times), int(grid.shape[2] // times)]
                grid = torch.nn.functional.interpolate(grid[None], target, mode="bilinear")[0]
        grid = torch.cat((grid, newline[:, None, None].expand(*grid.shape[:-1], 1)), dim=-1)
    merged = grid.flatten(1, 2).transpose(0, 1)
    return merged if "nobase" in kind else torch.cat((base, merged))
