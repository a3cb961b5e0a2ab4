"""Draws the pictures that heylook-tiny-vision learns from: coloured shapes or a digit on a coloured ground."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from random import Random

import numpy
from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]

COLOURS: dict[str, list[Colour]] = {
    "red": [(255, 0, 0), (215, 35, 45)],
    "orange": [(255, 165, 0), (250, 130, 30)],
    "yellow": [(255, 255, 0), (250, 220, 60)],
    "green": [(0, 128, 0), (0, 255, 0), (60, 175, 90)],
    "blue": [(0, 0, 255), (45, 95, 220), (25, 50, 150)],
    "purple": [(128, 0, 128), (140, 70, 190)],
    "pink": [(255, 192, 203), (250, 120, 180)],
    "white": [(255, 255, 255), (242, 242, 242)],
    "grey": [(128, 128, 128), (155, 155, 155)],
    "black": [(0, 0, 0), (28, 28, 28)],
}
"""Each name with pure and muted kinds of it; what is drawn lies between them."""

KINDS = ["circle", "square", "triangle", "star", "cross"]

DIGITS: list[list[list[Point]]] = [
    [[(0.5, 0), (0.85, 0.15), (1, 0.5), (0.85, 0.85), (0.5, 1), (0.15, 0.85), (0, 0.5), (0.15, 0.15), (0.5, 0)]],
    [[(0.15, 0.25), (0.55, 0), (0.55, 1)]],
    [[(0.02, 0.25), (0.2, 0.05), (0.5, 0), (0.85, 0.08), (0.95, 0.28), (0.8, 0.5), (0, 1), (1, 1)]],
    [
        [(0.05, 0.1), (0.4, 0), (0.8, 0.05), (0.92, 0.25), (0.8, 0.42), (0.4, 0.47)],
        [(0.4, 0.47), (0.85, 0.55), (1, 0.75), (0.85, 0.93), (0.45, 1), (0, 0.9)],
    ],
    [[(0.75, 1), (0.75, 0), (0, 0.68), (1, 0.68)]],
    [[(0.92, 0), (0.15, 0), (0.08, 0.45), (0.5, 0.38), (0.88, 0.48), (1, 0.7), (0.85, 0.93), (0.45, 1), (0, 0.92)]],
    [
        [(0.85, 0.03), (0.45, 0.12), (0.12, 0.4), (0, 0.7), (0.15, 0.93), (0.5, 1), (0.85, 0.93), (1, 0.72)],
        [(1, 0.72), (0.85, 0.5), (0.5, 0.43), (0.15, 0.5), (0, 0.7)],
    ],
    [[(0, 0), (1, 0), (0.35, 1)]],
    [
        [(0.5, 0), (0.85, 0.08), (0.92, 0.25), (0.8, 0.4), (0.5, 0.47)],
        [(0.5, 0.47), (0.2, 0.4), (0.08, 0.25), (0.15, 0.08), (0.5, 0)],
        [(0.5, 0.47), (0.88, 0.57), (1, 0.75), (0.85, 0.93), (0.5, 1)],
        [(0.5, 1), (0.15, 0.93), (0, 0.75), (0.12, 0.57), (0.5, 0.47)],
    ],
    [
        [(0.15, 0.97), (0.55, 0.88), (0.88, 0.6), (1, 0.3), (0.85, 0.07), (0.5, 0), (0.15, 0.07), (0, 0.28)],
        [(0, 0.28), (0.15, 0.5), (0.5, 0.57), (0.85, 0.5), (1, 0.3)],
    ],
]
"""The pen strokes of 0 to 9 in a box of height and width 1."""

SEGMENTS: list[str] = ["abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg"]
SEGMENT_LINES: dict[str, list[Point]] = {
    "a": [(0, 0), (1, 0)],
    "b": [(1, 0), (1, 0.5)],
    "c": [(1, 0.5), (1, 1)],
    "d": [(0, 1), (1, 1)],
    "e": [(0, 0.5), (0, 1)],
    "f": [(0, 0), (0, 0.5)],
    "g": [(0, 0.5), (1, 0.5)],
}

HELD_OUT_SHARE = 8


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape, or a digit where `kind` is one; its middle as shares of the picture's width and height."""

    kind: str
    colour: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn; `things` from left to right."""

    image: Image.Image
    ground: str
    things: tuple[Thing, ...]

    @property
    def shapes(self) -> list[Thing]:
        """The things that are no digits."""
        return [thing for thing in self.things if thing.kind in KINDS]

    @property
    def digit(self) -> Thing | None:
        """The digit, if there is one."""
        return next((thing for thing in self.things if thing.kind not in KINDS), None)

    @property
    def held_out(self) -> bool:
        """True for the eighth of all combinations of ground, things, colours and their order that are never taught."""
        parts = [self.ground, *(f"{thing.colour} {thing.kind}" for thing in self.things)]
        return bool(parts[1:]) and zlib.crc32(", ".join(parts).encode()) % HELD_OUT_SHARE == 0

    def square(self, side: int) -> numpy.ndarray:
        """The picture as the server hands it to an engine: resized to a square, bicubic; RGB bytes (side, side, 3)."""
        return numpy.asarray(self.image.resize((side, side), Image.Resampling.BICUBIC))


def shade(rng: Random, name: str) -> Colour:
    """Some colour of this name."""
    first, second = rng.choice(COLOURS[name]), rng.choice(COLOURS[name])
    part, spread = rng.random(), rng.choice([0, 0, 8])
    red, green, blue = (
        min(255, max(0, round(a + part * (b - a)) + rng.randint(-spread, spread)))
        for a, b in zip(first, second, strict=True)
    )
    return red, green, blue


def corners(kind: str, middle: Point, radius: float, turn: float) -> list[Point]:
    """The outline of every shape but the circle."""
    match kind:
        case "square":
            rays = [(45 + 90 * index, 1.0) for index in range(4)]
        case "triangle":
            rays = [(-90 + 120 * index, 1.1) for index in range(3)]
        case "star":
            rays = [(-90 + 36 * index, 1.1 if index % 2 == 0 else 0.45) for index in range(10)]
        case _:
            rays = [(90 * index + side, 0.42 if side == 45 else 1.0) for index in range(4) for side in (-17, 17, 45)]
    return [
        (
            middle[0] + radius * length * math.cos(math.radians(angle + turn)),
            middle[1] + radius * length * math.sin(math.radians(angle + turn)),
        )
        for angle, length in rays
    ]


def draw_shape(pen: ImageDraw.ImageDraw, rng: Random, kind: str, middle: Point, radius: float, colour: Colour) -> None:
    """One filled shape."""
    if kind == "circle":
        radius *= 0.9
        box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
        pen.ellipse(box, fill=colour)
    else:
        pen.polygon(corners(kind, middle, radius, rng.choice([0.0, rng.uniform(-12, 12)])), fill=colour)


def draw_digit(pen: ImageDraw.ImageDraw, rng: Random, digit: int, middle: Point, size: Point, colour: Colour) -> None:
    """One digit, written with a pen or made of segments; `size` is that of its box."""
    width, height = size
    lines = DIGITS[digit]
    if rng.random() < 0.2:
        lines = [SEGMENT_LINES[name] for name in SEGMENTS[digit]]
    thick = max(1.0, height * rng.uniform(0.08, 0.17))
    slant = rng.choice([0.0, rng.uniform(-0.15, 0.15)])
    for line in lines:
        points = [
            (
                middle[0] + (x - 0.5) * (width - thick) + slant * (0.5 - y) * height,
                middle[1] + (y - 0.5) * (height - thick),
            )
            for x, y in line
        ]
        pen.line(points, fill=colour, width=max(1, round(thick)), joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)


def places(rng: Random, width: float, height: float, count: int) -> list[tuple[float, float, float]]:
    """Middles and radii of `count` shapes that don't touch."""
    least = min(width, height)
    largest = (0, 0.36, 0.25, 0.2)[count]
    while True:
        found: list[tuple[float, float, float]] = []
        for _ in range(12 * count):
            radius = least * rng.uniform(0.12, largest)
            x, y = rng.uniform(1.1 * radius, width - 1.1 * radius), rng.uniform(1.1 * radius, height - 1.1 * radius)
            if all(math.hypot(x - a, y - b) > 1.12 * (radius + c) for a, b, c in found):
                found.append((x, y, radius))
            if len(found) == count:
                return found


def distance(first: Colour, second: Colour) -> float:
    """How far two colours are apart, 0 to 441."""
    return math.dist(first, second)


def contrasting(rng: Random, ground: str, behind: Colour) -> tuple[str, Colour]:
    """A colour that can be seen before this ground."""
    while True:
        name = rng.choice([name for name in COLOURS if name != ground])
        colour = shade(rng, name)
        if distance(colour, behind) > 70:
            return name, colour


def roughened(rng: Random, image: Image.Image) -> Image.Image:
    """The picture as it may arrive: sometimes noisy, sometimes after JPEG."""
    if rng.random() < 0.1:
        source = numpy.random.default_rng(rng.getrandbits(32))
        noise = source.standard_normal((*image.size[::-1], 3), numpy.float32) * rng.uniform(1, 6)
        image = Image.fromarray((numpy.asarray(image) + noise).clip(0, 255).astype(numpy.uint8))
    if rng.random() < 0.1:
        written = io.BytesIO()
        image.save(written, "JPEG", quality=rng.randint(60, 95))
        image = Image.open(written).convert("RGB")
    return image


def draw(rng: Random) -> Picture:
    """A new picture: mostly one to three shapes, often a digit, seldom nothing but its ground."""
    short = round(math.exp(rng.uniform(math.log(56), math.log(240))))
    long = short if rng.random() < 0.5 else round(short * rng.uniform(1, 1.6))
    width, height = (short, long) if rng.random() < 0.5 else (long, short)
    scale = 3 if short < 150 and rng.random() < 0.6 else 1
    ground = rng.choice(list(COLOURS))
    behind = shade(rng, ground)
    image = Image.new("RGB", (width * scale, height * scale), behind)
    pen, things = ImageDraw.Draw(image), []
    wide, high = float(width * scale), float(height * scale)
    roll = rng.random()
    if roll < 0.3:
        tall = min(wide, high) * rng.uniform(0.3, 0.85)
        size = (tall * rng.uniform(0.45, 0.75), tall)
        x, y = rng.uniform(size[0], wide - size[0]), rng.uniform(0.55 * tall, high - 0.55 * tall)
        name, colour = contrasting(rng, ground, behind)
        digit = rng.randint(0, 9)
        draw_digit(pen, rng, digit, (x, y), size, colour)
        things.append(Thing(str(digit), name, x / wide, y / high))
    elif roll < 0.98:
        few = rng.sample(KINDS, rng.choice([1, 2, 3]))
        for x, y, radius in places(rng, wide, high, rng.choice([1, 2, 2, 3, 3])):
            kind, (name, colour) = rng.choice(few), contrasting(rng, ground, behind)
            draw_shape(pen, rng, kind, (x, y), radius, colour)
            things.append(Thing(kind, name, x / wide, y / high))
    image = image.resize((width, height), Image.Resampling.BOX) if scale > 1 else image
    return Picture(roughened(rng, image), ground, tuple(sorted(things, key=lambda thing: thing.x)))


def taught(rng: Random) -> Picture:
    """A picture that is not held out."""
    picture = draw(rng)
    while picture.held_out:
        picture = draw(rng)
    return picture
