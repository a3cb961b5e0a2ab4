"""The questions about pictures: each function asks one of a picture and gives the right answer, or none to be asked."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from random import Random

from pictures import COLOURS, KINDS, Picture, Thing
from skills import Turn, assistant, user, vary

Writer = Callable[[Random, Picture], Turn | None]
CLEARLY_APART = 0.1
"""Least difference of two middles, as a share of the width, for left and right to be asked for."""
BLIND = "I see no image."
THOUGHT = "I look at the picture."
"""What is said before an answer that is to be thought about."""


def ask(rng: Random, skill: str, templates: list[str], answer: str, **slots: object) -> Turn:
    """A question in one of its wordings, British or American."""
    text = rng.choice(templates).format(**slots)
    if rng.random() < 0.3:
        text = text.replace("colour", "color")
    question = vary(rng, text)
    return Turn(skill, [user(question), assistant(answer)], question, thought=THOUGHT)


def lone(picture: Picture) -> list[Thing]:
    """The shapes that are the only one of their kind."""
    kinds = Counter(thing.kind for thing in picture.shapes)
    return [thing for thing in picture.shapes if kinds[thing.kind] == 1]


def plural(kind: str) -> str:
    """`cross` -> `crosses`."""
    return kind + ("es" if kind == "cross" else "s")


def article(word: str) -> str:
    """`orange` -> `an orange`."""
    return ("an " if word[0] in "aeiou" else "a ") + word


SHAPE_COLOUR = [
    "What colour is the {x}?",
    "Which colour is the {x}?",
    "What is the colour of the {x}?",
    "Tell me the colour of the {x}.",
    "Which colour does the {x} have?",
    "What colour does the {x} have?",
    "The {x} has which colour?",
    "colour of the {x}?",
    "In what colour is the {x} drawn?",
    "Name the colour of the {x}.",
]


def shape_colour(rng: Random, picture: Picture) -> Turn | None:
    """The colour of a shape that is there once."""
    if not lone(picture):
        return None
    thing = rng.choice(lone(picture))
    return ask(rng, "colour of a shape", SHAPE_COLOUR, f"The {thing.kind} is {thing.colour}.", x=thing.kind)


def ground_colour(rng: Random, picture: Picture) -> Turn | None:
    """The colour of the background."""
    return ask(
        rng,
        "colour of the background",
        [
            "What colour is the background?",
            "Which colour is the background?",
            "What is the colour of the background?",
            "What is the background colour?",
            "Tell me the colour of the background.",
            "Name the background colour.",
            "Which colour does the background have?",
            "What colour is behind it?",
            "background colour?",
            "What colour is the ground?",
        ],
        f"The background is {picture.ground}.",
    )


def number_of(count: int, one: str, many: str) -> str:
    """`There are 2 circles.`"""
    if count == 1:
        return f"There is 1 {one}."
    return f"There are {count or 'no'} {many}."


COUNT = [
    "How many {x}?",
    "How many {x} are there?",
    "How many {x} do you see?",
    "How many {x} can you see?",
    "How many {x} are in the picture?",
    "How many {x} are in the image?",
    "Count the {x}.",
    "What is the number of {x}?",
    "Tell me how many {x} there are.",
    "How many {x} does the picture show?",
]


def count_kind(rng: Random, picture: Picture) -> Turn | None:
    """How many shapes of one kind, none among the answers; never of a digit."""
    if not picture.shapes:
        return None
    kind = rng.choice([rng.choice(picture.shapes).kind, rng.choice(KINDS)])
    count = sum(thing.kind == kind for thing in picture.shapes)
    return ask(rng, "count of a shape", COUNT, number_of(count, kind, plural(kind)), x=plural(kind))


def count_all(rng: Random, picture: Picture) -> Turn | None:
    """How many shapes in all."""
    if picture.digit:
        return None
    return ask(rng, "count of all shapes", COUNT, number_of(len(picture.shapes), "shape", "shapes"), x="shapes")


DIGIT = [
    "Which digit?",
    "Which digit is it?",
    "What digit is it?",
    "What digit is this?",
    "Which digit is this?",
    "Which digit do you see?",
    "Which digit is shown?",
    "What digit is in the picture?",
    "Which digit is in the image?",
    "Read the digit.",
    "What number is it?",
    "Which number do you see?",
    "What number is in the image?",
    "Tell me the digit.",
]


def which_digit(rng: Random, picture: Picture) -> Turn | None:
    """The digit."""
    if not picture.digit:
        return None
    return ask(rng, "digit", DIGIT, f"The digit is {picture.digit.kind}.")


DIGIT_COLOUR = [*(text.replace("{x}", "digit") for text in SHAPE_COLOUR), "What colour is the number?"]


def digit_colour(rng: Random, picture: Picture) -> Turn | None:
    """The digit's colour."""
    if not picture.digit:
        return None
    return ask(rng, "colour of the digit", DIGIT_COLOUR, f"The digit is {picture.digit.colour}.")


SIDE = [
    "Is the {x} left or right of the {y}?",
    "Is the {x} to the left or to the right of the {y}?",
    "Is the {x} to the left or right of the {y}?",
    "On which side of the {y} is the {x}?",
    "Which side of the {y} is the {x} on?",
    "Does the {x} stand left or right of the {y}?",
    "The {x}: left or right of the {y}?",
]


def side(rng: Random, picture: Picture) -> Turn | None:
    """Which of two shapes is left of the other."""
    few = lone(picture)
    pairs = [(a, b) for a in few for b in few if abs(a.x - b.x) > CLEARLY_APART]
    if not pairs:
        return None
    first, second = rng.choice(pairs)
    where = "left" if first.x < second.x else "right"
    answer = f"The {first.kind} is {where} of the {second.kind}."
    return ask(rng, "left or right", SIDE, answer, x=first.kind, y=second.kind)


def outermost(rng: Random, picture: Picture) -> Turn | None:
    """The shape on the left or on the right."""
    if len(picture.shapes) < 2:
        return None
    where = rng.choice(["left", "right"])
    first, second = picture.shapes[:2] if where == "left" else picture.shapes[:-3:-1]
    if abs(first.x - second.x) < CLEARLY_APART:
        return None
    return ask(
        rng,
        "shape on a side",
        [
            "Which shape is on the {x}?",
            "What shape is on the {x}?",
            "What is on the {x}?",
            "Which shape is on the {x} side?",
            "Which shape stands on the {x}?",
            "What do you see on the {x}?",
            "Name the shape on the {x}.",
            "Which is the {x}most shape?",
        ],
        f"The {first.kind} is on the {where}.",
        x=where,
    )


WHICH_COLOUR = [
    "Which shape is {x}?",
    "What shape is {x}?",
    "What is {x}?",
    "What is {x} in the picture?",
    "Which of the shapes is {x}?",
    "Name the shape that is {x}.",
    "Which thing is {x}?",
]


def shape_of_colour(rng: Random, picture: Picture) -> Turn | None:
    """The shape of a colour that only it has."""
    colours = Counter(thing.colour for thing in picture.shapes)
    few = [thing for thing in picture.shapes if colours[thing.colour] == 1]
    if not few:
        return None
    thing = rng.choice(few)
    return ask(rng, "shape of a colour", WHICH_COLOUR, f"The {thing.kind} is {thing.colour}.", x=thing.colour)


def only_shape(rng: Random, picture: Picture) -> Turn | None:
    """The kind of a shape that stands alone."""
    if len(picture.things) != 1 or picture.digit:
        return None
    return ask(
        rng,
        "kind of the only shape",
        [
            "Which shape is it?",
            "What shape is it?",
            "What shape is this?",
            "Which shape is this?",
            "Which shape do you see?",
            "What shape is in the picture?",
            "Which shape is in the image?",
            "Name the shape.",
            "Tell me the shape.",
        ],
        f"It is {article(picture.things[0].kind)}.",
    )


def absent(rng: Random, picture: Picture) -> Turn | None:
    """Something that isn't there."""
    kinds = {thing.kind for thing in picture.things}
    kind = rng.choice([kind for kind in KINDS if kind not in kinds])
    none = f"There is no {kind}."
    roll = rng.random()
    if roll < 0.4 and picture.digit:
        return ask(rng, "what is not there", COUNT, number_of(0, kind, plural(kind)), x=plural(kind))
    if roll < 0.2:
        texts = rng.choice([DIGIT, DIGIT_COLOUR])
        return ask(rng, "what is not there", texts, "There is no digit.")
    if roll < 0.4 and lone(picture):
        names = [kind, rng.choice(lone(picture)).kind]
        rng.shuffle(names)
        return ask(rng, "what is not there", SIDE, none, x=names[0], y=names[1])
    if roll < 0.55 and picture.shapes:
        colours = {picture.ground, *(thing.colour for thing in picture.things)}
        colour = rng.choice([name for name in COLOURS if name not in colours])
        return ask(rng, "what is not there", WHICH_COLOUR, f"No shape is {colour}.", x=colour)
    return ask(rng, "what is not there", SHAPE_COLOUR, none, x=kind)


DESCRIBE = [
    "Describe the image.",
    "Describe the picture.",
    "Describe this image.",
    "Describe what you see.",
    "What do you see?",
    "What is in the image?",
    "What is in this picture?",
    "What's in this image?",
    "What does the picture show?",
    "What does the image show?",
    "Tell me what you see.",
    "What can you see in the image?",
    "Caption this image.",
]


def caption(picture: Picture) -> str:
    """One sentence that names everything, from left to right."""
    if picture.digit:
        names = [f"{article(picture.digit.colour)} digit {picture.digit.kind}"]
    else:
        names = [f"{article(thing.colour)} {thing.kind}" for thing in picture.things]
    text = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0] if names else "nothing"
    return f"{text[0].upper()}{text[1:]} on {article(picture.ground)} background."


def describe(rng: Random, picture: Picture) -> Turn | None:
    """The whole picture, where its order from left to right is clear."""
    middles = [thing.x for thing in picture.things]
    if any(b - a < CLEARLY_APART for a, b in itertools.pairwise(middles)):
        return None
    return ask(rng, "description", DESCRIBE, caption(picture))


WRITERS: dict[str, tuple[Writer, float]] = {
    "colour of a shape": (shape_colour, 3.0),
    "colour of the background": (ground_colour, 0.4),
    "count of a shape": (count_kind, 7.0),
    "count of all shapes": (count_all, 0.6),
    "digit": (which_digit, 1.5),
    "colour of the digit": (digit_colour, 1.2),
    "left or right": (side, 7.0),
    "shape on a side": (outermost, 1.6),
    "shape of a colour": (shape_of_colour, 2.5),
    "kind of the only shape": (only_shape, 1.0),
    "what is not there": (absent, 2.6),
    "description": (describe, 1.4),
}


def sight(rng: Random, picture: Picture) -> Turn:
    """Any question that fits a picture."""
    writers, weights = zip(*WRITERS.values(), strict=True)
    while True:
        turn: Turn | None = rng.choices(writers, weights)[0](rng, picture)
        if turn is not None:
            return turn


def blind(rng: Random, picture: Picture) -> Turn:
    """A question about a picture that isn't there."""
    turn = sight(rng, picture)
    return Turn("no image", [turn.messages[0], assistant(BLIND)], turn.key, thought="I look for a picture.")


# -- dialogues ------------------------------------------------------------------------------------------------------


def shown(rng: Random, turn: Turn, behind: float = 0.25) -> Turn:
    """The turn with a picture in its question, before the text or, now and then, behind it, as clients send it."""
    text = {"type": "text", "text": turn.messages[0]["content"]}
    image = {"type": "image"}
    gap = rng.choice(["", "", "", "\n", " "])
    if rng.random() > behind:
        parts = [image, {**text, "text": gap + text["text"]}]
    else:
        parts = [{**text, "text": text["text"] + gap}, image]
    return Turn(turn.skill, [{"role": "user", "content": parts}, *turn.messages[1:]], turn.key, thought=turn.thought)
