"""Images through a real worker with the fake provider: where they stand, what is shared, what is told and refused."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, UnsupportedFeature
from tests.worker.client import Client, chat
from tests.worker.pictures import picture, shown, turn

pytestmark = pytest.mark.integration

POSITIONS = 100
SEE = "[[see]]"
RED, BLUE = picture(3, 2, (255, 0, 0)), picture(2, 3, (0, 0, 255))
IN_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
"""As those of some vision models: a content that is a text is left out."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A worker that sees."""
    with Client(n_ctx=2048, image_tokens=POSITIONS) as one:
        yield one


def told(result: core.Result) -> Any:
    """What the fake model says it saw."""
    return json.loads(result.choices[0].text)


def facts(image: core.ImagePart, mean: list[int]) -> dict[str, object]:
    """What the fake model says of an image."""
    return {
        "width": image.width,
        "height": image.height,
        "mean": mean,
        "sha256": sha256(image.rgb).hexdigest(),
    }


def encoded(client: Client) -> int:
    """How many images went through the encoder so far."""
    return client.ping().images


def test_a_model_says_that_it_sees(client: Client) -> None:
    assert client.info is not None
    assert "vision" in client.info.capabilities


def test_images_are_seen_in_their_order(client: Client) -> None:
    result = client.run(shown("Look: ", RED, " and ", BLUE, RED, f"?{SEE}"))
    assert told(result) == [facts(RED, [255, 0, 0]), facts(BLUE, [0, 0, 255]), facts(RED, [255, 0, 0])]
    assert result.usage.prompt_tokens > 3 * POSITIONS
    times = result.timeline
    assert times.tokenized_ns is not None
    assert times.encoded_ns is not None
    assert times.queued_ns is not None
    assert times.tokenized_ns <= times.encoded_ns <= times.queued_ns
    assert client.run(shown("No images.")).timeline.encoded_ns is None


def test_a_template_that_reads_parts_only() -> None:
    with Client(n_ctx=2048, image_tokens=5, chat_template=IN_PARTS) as one:
        assert told(one.run(shown("Look: ", RED, f"?{SEE}"))) == [facts(RED, [255, 0, 0])]
        assert one.run(chat("Hi")).choices[0].text == "Hi"


def test_a_second_turn_computes_neither_the_image_nor_its_tokens_again(client: Client) -> None:
    image = picture(5, 5, (1, 2, 3))
    before = encoded(client)
    first = client.run(shown(image, "First.[[say:One.]]"))
    turns = (turn("user", image, "First.[[say:One.]]"), turn("assistant", "One."), turn("user", "Second.[[say:Two.]]"))
    second = client.run(core.ChatPrompt(turns))
    assert second.choices[0].text == "Two."
    assert second.usage.cached_tokens > first.usage.prompt_tokens
    assert encoded(client) == before + 1


def test_different_images_are_not_shared(client: Client) -> None:
    first, second = (client.run(shown(picture(4, 4, (9, 9, blue)), SEE)) for blue in (1, 2))
    assert [told(one)[0]["mean"] for one in (first, second)] == [[9, 9, 1], [9, 9, 2]]
    assert second.usage.cached_tokens < POSITIONS


def test_choices_share_the_image(client: Client) -> None:
    before = encoded(client)
    result = client.run(shown(picture(6, 6), SEE), n=3)
    assert len({choice.text for choice in result.choices}) == 1
    assert encoded(client) == before + 1


def test_a_preempted_sequence_sees_again() -> None:
    with Client(n_ctx=600, kv_tokens=600, image_tokens=POSITIONS, decode_tokens_per_second=300) as one:
        pictures = [picture(2, 2, (0, green, 0)) for green in range(4)]
        numbers = [one.submit(shown(image, f"{SEE}[[say: {'x' * 60}]]")) for image in pictures]
        events = one.events(numbers)
        preempted = 0
        for number, image in zip(numbers, pictures, strict=True):
            fold = core.Fold()
            for event in events[number]:
                fold.feed(event)
            result = fold.result()
            assert result.choices[0].text.startswith(json.dumps([facts(image, [0, image.rgb[1], 0])]))
            preempted += result.timeline.preemptions
        assert preempted > 0


def test_streams_go_on_while_an_image_is_encoded() -> None:
    with Client(n_ctx=2048, image_tokens=4, image_seconds=3600, decode_tokens_per_second=500) as one:
        seeing = one.submit(shown(RED, SEE))
        text = one.run(chat("[[count:50]]")).choices[0].text  # the other request has no event before this one's end
        assert text.endswith("50")
        one.send(core.Cancel(seeing))


def test_counts_are_true_and_ids_are_not_told(client: Client) -> None:
    prompt = shown("Look: ", BLUE, "?")
    tokens = client.call(core.Tokenize(prompt, with_pieces=True))
    assert isinstance(tokens, core.Tokens)
    assert tokens.image_tokens == POSITIONS
    assert min(tokens.tokens) >= 0
    assert len(tokens.pieces) == len(tokens.tokens)
    result = client.run(prompt, echo=True, max_tokens=1)
    assert result.usage.prompt_tokens == len(tokens.tokens) + POSITIONS
    assert result.choices[0].done.prompt_tokens == tokens.tokens
    assert "Look: ?" in result.choices[0].done.prompt_text


def test_counting_encodes_nothing(client: Client) -> None:
    before = encoded(client)
    client.call(core.Tokenize(shown(picture(7, 7))))
    with pytest.raises(ContextLengthExceeded):
        client.run(shown(picture(7, 7), "x" * 2000))
    assert encoded(client) == before


def test_what_is_rendered_shows_a_place_for_each_image(client: Client) -> None:
    rendered = client.call(core.Render(shown("a", RED, "b")))
    assert rendered == core.Rendered("<|im_start|>user\na<image>b<|im_end|>\n<|im_start|>assistant\n")


def test_text_does_not_pass_for_an_image(client: Client) -> None:
    assert told(client.run(shown(f"image0123number0end<image>{SEE}"))) == []


def test_the_oldest_turns_go_with_their_images(client: Client) -> None:
    turns = [turn("user", picture(1, 1, (at, 0, 0)), "x" * 150) for at in range(12)]
    asked = turn("user", picture(1, 1, (99, 0, 0)), SEE)
    before = encoded(client)
    result = client.run(core.ChatPrompt((*turns, asked)), truncate="oldest")
    assert '"mean": [99, 0, 0]' in result.choices[0].text  # the context ends within what is told
    assert result.timeline.dropped_tokens > 0
    assert 0 < encoded(client) - before < 13


def test_a_prompt_is_cut_beside_its_images(client: Client) -> None:
    result = client.run(shown(picture(1, 2), "x" * 1970), before=(65,) * 5, truncate="oldest", echo=True)
    done = result.choices[0].done
    assert 1970 < done.usage.prompt_tokens == len(done.prompt_tokens) < 2047  # no part of the image is left


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_odd_sizes(client: Client, size: tuple[int, int]) -> None:
    image = picture(*size, (1, 1, 1))
    assert told(client.run(shown(image, SEE))) == [facts(image, [1, 1, 1])]


def test_bytes_that_are_not_the_pixels_are_refused(client: Client) -> None:
    with pytest.raises(BadRequest, match="2 x 2 pixels can't be read from 5 bytes"):
        client.run(shown(core.ImagePart(b"12345", 2, 2), "?"))


def test_an_image_that_the_template_leaves_out_is_refused() -> None:
    source = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}<|im_start|>assistant\n"
    prompt = core.ChatPrompt((turn("assistant", RED), turn("user", "?")))
    with Client(image_tokens=4, chat_template=source) as one, pytest.raises(BadRequest, match="leaves an image out"):
        one.run(prompt)


def test_a_blind_model_refuses_images() -> None:
    with Client() as one, pytest.raises(UnsupportedFeature, match="does not support vision"):
        one.run(shown(RED, "?"))


def test_a_shift_drops_whole_images(client: Client) -> None:
    fields = {"n_ctx": 300, "shift": True, "ignore_eos": True, "max_tokens": 400}
    [choice] = client.run(shown(picture(3, 3), "abc", picture(4, 3), "[[say:defg]]"), **fields).choices
    assert choice.done.usage.output_tokens == 400
    assert choice.done.timeline.dropped_tokens > POSITIONS
