"""The pictures and questions that the bundled vision model is trained on; written without torch, so tested here."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

pytestmark = pytest.mark.unit


def named(pictures: Any, colour: tuple[int, ...]) -> set[str]:
    """The names whose shades come near a colour, with room for noise and JPEG."""
    found = set()
    for name, shades in pictures.COLOURS.items():
        for first in shades:
            for second in shades:
                steps = [[a + (b - a) * part / 8 for a, b in zip(first, second, strict=True)] for part in range(9)]
                if min(math.dist(step, colour) for step in steps) < 45:
                    found.add(name)
    return found


def test_a_seed_gives_the_same_pictures(generator: Any) -> None:
    pictures = generator("pictures")
    for seed in range(5):
        first, second = pictures.draw(Random(seed)), pictures.draw(Random(seed))
        assert first.things == second.things
        assert first.square(72).tobytes() == second.square(72).tobytes()
    assert pictures.draw(Random(1)).image.tobytes() != pictures.draw(Random(2)).image.tobytes()


def test_every_shape_has_its_colour_and_the_corners_that_of_the_ground(generator: Any) -> None:
    pictures, shapes, corners = generator("pictures"), 0, 0
    for seed in range(200):
        picture = pictures.draw(Random(seed))
        width, height = picture.image.size
        for thing in picture.shapes:
            middle = picture.image.getpixel((int(thing.x * width), int(thing.y * height)))
            assert thing.colour in named(pictures, middle), (seed, thing, middle)
            shapes += 1
        if not picture.digit:
            corners += picture.ground in named(pictures, picture.image.getpixel((0, 0)))
    assert shapes > 200
    assert corners > 120


def test_things_are_told_from_left_to_right_and_stand_inside(generator: Any) -> None:
    pictures = generator("pictures")
    for seed in range(200):
        things = pictures.draw(Random(seed)).things
        assert [thing.x for thing in things] == sorted(thing.x for thing in things)
        assert all(0.05 < thing.x < 0.95 and 0.05 < thing.y < 0.95 for thing in things)


def test_an_eighth_of_the_pictures_is_held_out_and_never_taught(generator: Any) -> None:
    pictures, rng = generator("pictures"), Random(4)
    assert 20 < sum(pictures.draw(rng).held_out for _ in range(300)) < 60
    assert not any(pictures.taught(rng).held_out for _ in range(100))


def test_what_is_held_out_hangs_on_what_is_drawn_not_on_how(generator: Any) -> None:
    pictures = generator("pictures")
    seen: dict[Any, bool] = {}
    for seed in range(1500):
        picture = pictures.draw(Random(seed))
        key = (picture.ground, tuple((thing.kind, thing.colour) for thing in picture.things))
        assert seen.setdefault(key, picture.held_out) == picture.held_out


Check = Callable[[Any, list[str], list[str]], bool]


def only(picture: Any, kind: str) -> Any:
    """The one thing of this kind."""
    (thing,) = [thing for thing in picture.things if thing.kind == kind]
    return thing


def counted(picture: Any, words: list[str], kinds: list[str]) -> bool:
    number = 0 if words[2] == "no" else int(words[2])
    return number == sum(words[-1].startswith((kind, "shape")) for kind in kinds)


def on_its_side(picture: Any, words: list[str], kinds: list[str]) -> bool:
    first, second = only(picture, words[1]), only(picture, words[-1])
    return bool(first.x < second.x if words[3] == "left" else first.x > second.x)


def missing(picture: Any, words: list[str], kinds: list[str]) -> bool:
    if words[0] == "No":
        return words[-1] not in [thing.colour for thing in picture.things]
    if words[-1] == "digit":
        return not any(kind.isdigit() for kind in kinds)
    return not any(words[-1].startswith(kind) for kind in kinds)


def described(picture: Any, words: list[str], kinds: list[str]) -> bool:
    colours = [thing.colour for thing in picture.things]
    said = [word.strip(",").lower() for word in words]
    return words[-2] == picture.ground and all(said.count(word) >= 1 for word in kinds + colours)


CHECKS: dict[str, Check] = {
    "colour of a shape": lambda picture, words, kinds: only(picture, words[1]).colour == words[3],
    "shape of a colour": lambda picture, words, kinds: words[1:4:2] in [[t.kind, t.colour] for t in picture.things],
    "colour of the background": lambda picture, words, kinds: words[-1] == picture.ground,
    "count of a shape": counted,
    "count of all shapes": counted,
    "digit": lambda picture, words, kinds: words[-1:] == kinds,
    "colour of the digit": lambda picture, words, kinds: words[-1] == picture.digit.colour,
    "left or right": on_its_side,
    "shape on a side": lambda picture, words, kinds: words[1] == kinds[0 if words[-1] == "left" else -1],
    "kind of the only shape": lambda picture, words, kinds: words[-1:] == kinds,
    "what is not there": missing,
    "description": described,
}


@pytest.mark.parametrize("seed", range(8))
def test_answers_are_true(generator: Any, seed: int) -> None:
    pictures, sights, rng = generator("pictures"), generator("sights"), Random(seed)
    for _ in range(60):
        picture = pictures.draw(rng)
        turn = sights.sight(rng, picture)
        words, kinds = turn.answer.rstrip(".").split(), [thing.kind for thing in picture.things]
        assert CHECKS[turn.skill](picture, words, kinds), (picture, turn)


def test_every_kind_of_question_is_asked(generator: Any) -> None:
    pictures, sights, rng = generator("pictures"), generator("sights"), Random(2)
    asked = {sights.sight(rng, pictures.draw(rng)).skill for _ in range(600)}
    assert asked == set(sights.WRITERS)


def test_a_shown_picture_stands_where_the_template_puts_it(generator: Any) -> None:
    pictures, sights, bpe, rng = generator("pictures"), generator("sights"), generator("tokenizer"), Random(6)
    turns = [sights.shown(rng, sights.sight(rng, pictures.draw(rng))) for _ in range(40)]
    texts = [bpe.render(turn.messages, images=True) for turn in turns]
    assert all(text.count("<image>") == 1 for text in texts)
    assert sum("user\n<image>" in text for text in texts) > 20
    assert sum("<image><|im_end|>" in text for text in texts) > 2
    assert "<image>" not in bpe.render(turns[0].messages)


def test_without_a_picture_it_says_so(generator: Any) -> None:
    pictures, sights = generator("pictures"), generator("sights")
    turn = sights.blind(Random(1), pictures.draw(Random(1)))
    assert turn.answer == "I see no image."
    assert isinstance(turn.messages[0]["content"], str)
