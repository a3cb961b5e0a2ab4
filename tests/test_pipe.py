"""Frames: any message survives any cuts, a cancel passes between pieces, and garbage is a ProtocolError."""

import io
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heylook_llm import core, pipe
from heylook_llm.errors import ProtocolError

pytestmark = pytest.mark.unit


def downward() -> pipe.Decoder[core.Downward]:
    return pipe.Decoder(core.Downward)  # type: ignore[arg-type]  # a union


def upward() -> pipe.Decoder[core.Upward]:
    return pipe.Decoder(core.Upward)  # type: ignore[arg-type]  # a union


def image(size: int) -> core.Submit:
    message = core.Message("user", (core.ImagePart(bytes(range(256)) * (size // 256), size, 1), core.TextPart("?")))
    return core.Submit(7, core.Request("r", "m", (core.ChatPrompt((message,)),)))


def step(count: int = 8) -> core.Step:
    return core.Step(tuple((n, core.Text(0, "token", (n,))) for n in range(count)))


text = st.text(max_size=20)
tokens = st.lists(st.integers(0, 1 << 20), max_size=4).map(tuple)
logprobs = st.lists(
    st.builds(core.TokenLogprob, st.integers(0, 9), st.binary(max_size=4), st.floats(allow_nan=False)), max_size=2
).map(tuple)
events: st.SearchStrategy[core.Event] = st.one_of(
    st.builds(core.Progress, st.integers(0, 3), st.integers(0, 99), st.integers(0, 99)),
    st.builds(core.Text, st.integers(0, 3), text, tokens, logprobs),
    st.builds(core.Reasoning, st.integers(0, 3), text, tokens, logprobs),
    st.builds(core.ToolCallStart, st.integers(0, 3), st.integers(0, 3), text, text, tokens),
    st.builds(core.ToolCallArgs, st.integers(0, 3), st.integers(0, 3), text, tokens),
    st.builds(core.Done, st.integers(0, 3), st.just("stop"), st.builds(core.Usage), st.builds(core.Timeline)),
    st.builds(core.Failed, st.builds(core.ErrorInfo, st.just("EngineError"), text)),
)
answers: st.SearchStrategy[core.Answer] = st.one_of(
    st.builds(core.Tokens, tokens), st.builds(core.Rendered, text), st.builds(core.Flushed, st.integers(0, 99))
)
upward_messages: st.SearchStrategy[core.Upward] = st.one_of(
    st.builds(core.LoadProgress, st.floats(0, 1)),
    st.builds(core.Ready, st.builds(core.ModelInfo, text, text, st.integers(1, 1 << 20))),
    st.builds(core.Refused, st.builds(core.ErrorInfo, st.just("LoadFailed"), text)),
    st.builds(core.Step, st.lists(st.tuples(st.integers(0, 99), events), max_size=5).map(tuple)),
    st.builds(core.Returned, st.integers(0, 99), answers),
    st.builds(core.Failure, st.integers(0, 99), st.builds(core.ErrorInfo, st.just("EngineError"), text)),
    st.builds(core.Pong, st.integers(0, 99), st.builds(core.WorkerStats, st.integers(0, 1 << 40))),
)


@given(st.lists(upward_messages, max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_any_messages_survive_any_cuts(messages: list[core.Upward], cuts: list[int]) -> None:
    encoder, decoder = pipe.Encoder(), upward()
    wire = io.BytesIO(b"".join(encoder.encode(message) for message in messages))
    seen: list[core.Upward] = []
    while any(data := [wire.read(cut) for cut in cuts]):
        for piece in data:
            seen += decoder.feed(piece)
    assert seen == messages


def test_every_message_type_is_covered_above() -> None:
    assert len(get_args(core.Event)) == 7
    assert len(get_args(core.Upward)) == 7


@pytest.mark.parametrize("size", [pipe.PIECE_BYTES - 4096, pipe.PIECE_BYTES, 3 * pipe.PIECE_BYTES + 5])
def test_long_messages_travel_in_pieces(size: int) -> None:
    frames = list(pipe.Encoder().frames(image(size)))
    assert all(len(frame) <= pipe.MAX_FRAME_BYTES + pipe.PREFIX_BYTES for frame in frames)
    decoder = downward()
    seen = [message for frame in frames for message in decoder.feed(frame)]
    assert seen == [image(size)]


def test_a_cancel_passes_between_pieces() -> None:
    encoder, decoder = pipe.Encoder(), downward()
    frames = list(encoder.frames(image(3 * pipe.PIECE_BYTES)))
    cancel = encoder.encode(core.Cancel(3))
    seen = [message for frame in (frames[0], cancel, *frames[1:]) for message in decoder.feed(frame)]
    assert [type(message) for message in seen] == [core.Cancel, core.Submit]


def test_two_long_messages_may_interleave() -> None:
    encoder, decoder = pipe.Encoder(), downward()
    one, two = (list(encoder.frames(image(2 * pipe.PIECE_BYTES + extra))) for extra in (0, 256))
    seen = [message for pair in zip(one, two, strict=True) for frame in pair for message in decoder.feed(frame)]
    assert seen == [image(2 * pipe.PIECE_BYTES), image(2 * pipe.PIECE_BYTES + 256)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",  # a length beyond the limit
        (pipe.MAX_FRAME_BYTES + 1).to_bytes(4, "little"),
        b"\x00\x00\x00\x00",  # no message
        b"\x01\x00\x00\x00\xc1",  # never used in msgpack
        b"\x04\x00\x00\x00\x92\xa3abc"[:8],  # cut within
        b"\x05\x00\x00\x00\x91\xa3abc",  # an unknown tag
        b"\x07\x00\x00\x00\x92\xa5ready\x01"[:11],
        b"llama_model_loader: loaded meta data with 26 key-value pairs\n",
    ],
)
def test_garbage_is_a_protocol_error(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        upward().feed(garbage)


@given(st.binary(min_size=1, max_size=200))
@example(b"\x91\xa2\x00\x80")  # a string that isn't UTF-8
def test_noise_never_raises_anything_else(noise: bytes) -> None:
    decoder = upward()
    try:
        decoder.feed(len(noise).to_bytes(4, "little") + noise)
    except ProtocolError:
        return


def test_deep_nesting_is_a_protocol_error() -> None:
    payload = b"\x91" * 100_000 + b"\x90"
    with pytest.raises(ProtocolError):
        upward().feed(len(payload).to_bytes(4, "little") + payload)


def test_pieces_without_end_are_a_protocol_error() -> None:
    decoder = upward()
    encoder = msgspec.msgpack.Encoder()

    def piece(number: int) -> bytes:
        payload = encoder.encode(pipe.Piece(number, b"x", False))
        return len(payload).to_bytes(4, "little") + payload

    for number in range(pipe.MAX_OPEN_MESSAGES):
        decoder.feed(piece(number))
    with pytest.raises(ProtocolError, match="never end"):
        decoder.feed(piece(pipe.MAX_OPEN_MESSAGES))


def test_one_byte_at_a_time() -> None:
    data = pipe.Encoder().encode(core.Returned(1, core.Rendered("x" * 4000)))
    decoder = upward()
    seen = [message for at in range(len(data)) for message in decoder.feed(data[at : at + 1])]
    assert seen == [core.Returned(1, core.Rendered("x" * 4000))]
