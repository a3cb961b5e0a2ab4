"""JSON at the border: what is refused on the way in, what is escaped on the way out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.errors import BadRequest
from heylook_llm.server.wire import jsontext

pytestmark = pytest.mark.unit

BAD = [
    b"",
    b"{",
    b'{"a": 1,}',
    b"{'a': 1}",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": "\xff"}',
    b"\xef\xbb\xbf{}",
    '{"a": 1}'.encode("utf-16"),
    b'{"a": "\\ud800"}',
    b'{"a": "\\udc00\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"a": 1, "a": 2}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 500 + b"]" * 500,
    b'{"a": 1} x',
    b"\x00",
    b"{" + b",".join(b'"%d":1' % at for at in range(100_001)) + b"}",
    b"[" + b"1," * 4_000_001 + b"1]",
]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_what_is_no_json_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        jsontext.decode(body)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert jsontext.decode(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


def test_trailing_bytes_may_be_ignored() -> None:
    assert jsontext.decode(b' {"a": 1} {"b"', trailing=True) == {"a": 1}


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_a_bad_request(body: bytes) -> None:
    try:
        jsontext.decode(body)
    except BadRequest:
        return


@given(st.text())
def test_what_is_encoded_is_one_line_and_comes_back(text: str) -> None:
    for data in (jsontext.quoted(text), jsontext.encode(text)):
        assert len(data.decode().splitlines()) == 1
        assert json.loads(data) == text


def test_line_separators_are_escaped() -> None:
    data = jsontext.encode({"a\u2028": "b\u2029c\x85d\r\ne\x0b\x0c\x1c"})
    assert len(data.decode().splitlines()) == 1
    assert json.loads(data) == {"a\u2028": "b\u2029c\x85d\r\ne\x0b\x0c\x1c"}


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    assert json.loads(jsontext.encode({"a": ["x\ud800y"]})) == {"a": ["x\ufffdy"]}
    assert json.loads(jsontext.quoted("\udc00\u2028")) == "\ufffd\u2028"
