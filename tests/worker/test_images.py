"""Images as tokens: ids by content, cuts beside them, marks in a template's text, what is kept of them."""

import gc
import itertools
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.errors import BadRequest
from heylook_llm.worker import images
from heylook_llm.worker.images import Gallery, Marks, Seen
from heylook_llm.worker.lookup import Lookup
from heylook_llm.worker.providers.choosing import Penalties
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence, State
from tests.worker.pictures import picture
from tests.worker.simulated import Simulated, run

pytestmark = pytest.mark.unit

prompts = st.lists(st.one_of(st.integers(0, 9), st.integers(1, 4).map(str)), max_size=12)
"""Tokens, and images of so many positions."""


def tokens_of(prompt: list[int | str]) -> list[int]:
    """A prompt in which every image is another."""
    tokens: list[int] = []
    for at, part in enumerate(prompt):
        tokens += [part] if isinstance(part, int) else images.ids_of(bytes((at,)), int(part))
    return tokens


def test_equal_images_are_equal_tokens_and_different_ones_have_none_in_common() -> None:
    shown = [picture(2, 2), picture(4, 1), picture(1, 4), picture(2, 2, (0, 0, 1)), picture(2, 3)]
    runs = [images.ids_of(images.digest_of(image), 8) for image in shown]
    assert runs[0] == images.ids_of(images.digest_of(picture(2, 2)), 8)
    every = set(itertools.chain.from_iterable(runs))
    assert len(every) == 8 * len(shown)
    assert all(-(1 << 63) <= token < 0 for token in every)


@given(prompts, st.integers(0, 40))
def test_cuts_go_beside_images(prompt: list[int | str], at: int) -> None:
    tokens = tokens_of(prompt)
    borders = {0, len(tokens)} | set(itertools.accumulate(int(part) if isinstance(part, str) else 1 for part in prompt))
    at = min(at, len(tokens))
    assert images.run_start(tokens, at) == max(border for border in borders if border <= at)
    assert images.run_end(tokens, at) == min(border for border in borders if border >= at)
    assert images.has_images(tokens) == any(isinstance(part, str) for part in prompt)


@given(prompts, st.integers(0, 20))
def test_words_are_what_is_no_image(prompt: list[int | str], most: int) -> None:
    words = [part for part in prompt if isinstance(part, int)]
    assert images.words(tokens_of(prompt)) == words
    assert images.words(tokens_of(prompt), most) == words[len(words) - min(most, len(words)) :]


@pytest.mark.parametrize("size", [(0, 1, 0), (1, 0, 0), (2, 2, 11), (2, 2, 13), (-1, -1, 3), (1 << 20, 1 << 20, 3)])
def test_bytes_that_are_not_the_pixels_are_refused(size: tuple[int, int, int]) -> None:
    width, height, length = size
    with pytest.raises(BadRequest, match=f"{width} x {height} pixels can't be read from {length} bytes"):
        Marks().mark(core.ImagePart(bytes(length), width, height))


def test_marks_part_a_text_at_its_images() -> None:
    marks, others = Marks(), Marks()
    first, second = picture(1, 1), picture(2, 1)
    text = f"a{marks.mark(first)}{marks.mark(second)}b{marks.mark(first)}"
    assert list(marks.split(text)) == ["a", first, "", second, "b", first, ""]
    assert marks.shown(text) == "a<image><image>b<image>"
    assert not marks.missing(text)
    assert marks.missing(text.replace("b", "")[:-1])
    assert list(others.split(text)) == [text]
    assert others.mark(first) != marks.mark(first)


def test_the_latest_are_kept_and_what_is_held() -> None:
    gallery: Gallery[str] = Gallery(100)
    held = Seen((1, *images.ids_of(b"a", 3), 2), "first", 60)
    gallery.put(b"a", held)
    gallery.put(b"b", Seen(images.ids_of(b"b", 3), "second", 60))
    gc.collect()
    assert gallery.find(b"a") is held  # which puts it before the second
    gc.collect()
    assert gallery.find(b"b") is None
    assert gallery.owner(images.ids_of(b"b", 3)[0]) is None
    for at, token in enumerate(images.ids_of(b"a", 3)):
        owner = gallery.owner(token)
        assert owner is held
        assert owner.places[token] == at
    gallery.put(b"c", Seen(images.ids_of(b"c", 1), "too large", 101))
    gallery.put(b"d", Seen(images.ids_of(b"d", 1), "just fits", 100))
    gc.collect()
    assert gallery.find(b"c") is None
    assert gallery.owner(held.tokens[1]) is held
    del held, owner
    gc.collect()
    assert gallery.find(b"a") is None


def test_a_digest_is_made_once_and_keeps_no_pixels() -> None:
    gallery: Gallery[str] = Gallery(100)
    image, same = picture(300, 200), picture(300, 200)
    kept = weakref.ref(image)
    assert gallery.digest(image) is gallery.digest(image) is gallery.digest(same)
    assert gallery.digest(image) == images.digest_of(same) != gallery.digest(picture(200, 300))
    del image
    gc.collect()
    assert kept() is None


def test_images_are_neither_guessed_nor_penalized() -> None:
    run_of = images.ids_of(b"x", 3)
    text = Lookup([1, 2, 3, *run_of, 4, 1, 2])
    found = text.following(8, 2)
    assert found is not None
    assert found.tokens == (3,)
    assert Lookup([1, 2, *run_of, 1, 2]).following(8, 2) is None
    sampling = core.Sampling(repeat_penalty=1.1, repeat_last_tokens=2)
    penalties = Penalties.of(sampling, [7, 8, *run_of])
    assert penalties is not None
    assert penalties.counts == {7: 1, 8: 1}


@pytest.mark.parametrize("whole", [True, False])
def test_an_image_whose_tokens_see_each_other_is_computed_in_one_step(whole: bool) -> None:
    prompt = [1] * 10 + list(images.ids_of(b"x", 70)) + list(images.ids_of(b"y", 20)) + [2] * 10
    memory = Simulated(2, 400)
    scheduler = Scheduler(memory, slots=2, kv_tokens=400, n_batch=128, prefill_tokens=40, whole_images=whole)
    sequence = Sequence(0, 0, prompt, core.Sampling(max_tokens=1, ignore_eos=True), limit_tokens=400)
    scheduler.submit(sequence, 0)
    run(scheduler, memory)
    sizes = [chunk.tokens for chunk in sequence.chunks]
    assert sizes == ([10, 70, 30] if whole else [40, 40, 30])


@pytest.mark.parametrize("whole", [True, False])
def test_beside_streams_a_step_computes_little_of_one_image(whole: bool) -> None:
    """Decoding takes 10 ms here, and a prompt's token 1 ms: 10 of an image's tokens take as long as a step."""
    memory = Simulated(4, 2000)
    scheduler = Scheduler(memory, slots=4, kv_tokens=2000, whole_images=whole)

    def step() -> list[int]:
        feeds = scheduler.plan(0)
        tokens = [token for feed in feeds if len(feed.tokens) > 1 or not feed.sample for token in feed.tokens]
        scheduler.commit(memory.step(feeds), 0, (10 + len(tokens)) * 1_000_000)
        return tokens

    def asked(number: int, prompt: list[int], most: int) -> Sequence:
        sampling = core.Sampling(max_tokens=most, ignore_eos=True)
        seen = ("rows",) if images.has_images(prompt) else ()
        sequence = Sequence(number, 0, prompt, sampling, limit_tokens=1000, seen=seen)
        scheduler.submit(sequence, 0)
        return sequence

    stream = asked(0, [1] * 64, 500)
    for _ in range(50):
        step()
    seeing = [
        asked(1, [2] * 20 + list(images.ids_of(b"x", 35)) + list(images.ids_of(b"y", 15)) + [3] * 20, 1),
        asked(2, list(images.ids_of(b"z", 12)) + [4] * 3, 1),
    ]
    steps = []
    while any(sequence.state is not State.FINISHED for sequence in seeing):
        steps.append(step())
    assert stream.state is State.RUNNING
    seen = [[token for token in tokens if token < 0] for tokens in steps]
    assert sum(map(len, seen)) == 35 + 15 + 12
    runs = [
        {next(name for name in (b"x", b"y", b"z") if token in images.ids_of(name, 35)) for token in one} for one in seen
    ]
    assert max(map(len, runs)) == 1, "one call of its own in a step"
    if not whole:
        assert max(map(len, seen)) <= 10


def test_a_context_shift_drops_whole_images() -> None:
    prompt = [1, 2, 3, *images.ids_of(b"x", 8), 4, *images.ids_of(b"y", 9), 5, 6]
    memory = Simulated(1, 64)
    scheduler = Scheduler(memory, slots=1, kv_tokens=64)
    sampling = core.Sampling(max_tokens=2, ignore_eos=True)
    sequence = Sequence(0, 0, prompt, sampling, limit_tokens=len(prompt) + 1, shift=True, keep_tokens=5)
    scheduler.submit(sequence, 0)
    run(scheduler, memory)
    assert sequence.tokens[: len(prompt[:11]) + 2] == [*prompt[:11], 5, 6]
    assert sequence.output_tokens == 2
