"""URLs of images: what is taken, what isn't, and that no other parser reads it otherwise."""

import ipaddress
import itertools
import string
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.errors import BadRequest
from heylook_llm.server import media_url
from heylook_llm.server.media_url import Url

pytestmark = pytest.mark.unit

TAKEN = {
    "http://example.com": Url("http", "example.com", 80, "/"),
    "HTTPS://Example.COM/A%20b.png?x=1#part": Url("https", "example.com", 443, "/A%20b.png?x=1"),
    "https://example.com:8443/a": Url("https", "example.com", 8443, "/a"),
    "https://example.com:443/a": Url("https", "example.com", 443, "/a"),
    "http://example.com.:80?q": Url("http", "example.com", 80, "/?q"),
    "http://8.8.8.8/a@b": Url("http", "8.8.8.8", 80, "/a@b"),
    "http://[2606:4700:0:0::1111]/": Url("http", "2606:4700::1111", 80, "/"),
    "http://xn--bcher-kva.example/": Url("http", "xn--bcher-kva.example", 80, "/"),
    "http://a_b.example/ä?ö": Url("http", "a_b.example", 80, "/%C3%A4?%C3%B6"),
    "http://1.example/": Url("http", "1.example", 80, "/"),
    "http://example.com/../x//y": Url("http", "example.com", 80, "/../x//y"),
    "http://example.com/http://127.0.0.1/": Url("http", "example.com", 80, "/http://127.0.0.1/"),
}
REFUSED = [
    "", " ", "x", "/etc/passwd", "../x.png", "C:\\x.png", "file:///etc/hostname", "ftp://example.com/x",
    "gopher://example.com/", "javascript:alert(1)", "blob:http://example.com/1", "data:image/png;base64,AA==",
    "//example.com/x", "http:example.com", "http:/example.com", "http:///example.com", "http://", "http://?x",
    "http://#x", "http://:80/", "https://user@example.com/", "http://user:password@example.com/",
    "http://8.8.8.8@127.0.0.1/", "http://127.0.0.1:80@8.8.8.8/", "http://8.8.8.8\\@127.0.0.1/",
    "http://8.8.8.8\\.127.0.0.1/", "http:\\\\127.0.0.1\\", "http://8.8.8.8 @127.0.0.1/", "http://8.8.8.8\t/",
    "http://8.8.8.8/\n", "http://8.8.8.8/\r\nHost: x", "http://8.8.8.8/\x00", " http://8.8.8.8/", "http://8.8.8.8/ ",
    "http://8.8.8.8/a b", "http://8.8.8.8/\x7f", "http://8.8.8.8/\u00a0", "http://8.8.8.8/\u2028",
    "http://8.8.8.8/\u3000", "http://bücher.example/", "http://１２７.0.0.1/", "http://127。0。0。1/", "http://ⓔxample.com/",
    "http://example.com:/x:y", "http://example.com:x/", "http://example.com:0/", "http://example.com:65536/",
    "http://example.com:080000/", "http://example.com:-80/", "http://example.com:80:80/", "http://2130706433/",
    "http://0x7f.1/", "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://0177.0.0.1/",
    "http://127.0.0.01/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://foo.0x/", "http://foo.1/", "http://[::1/",
    "http://::1/", "http://[::1]x/", "http://[::1%25eth0]/", "http://[::1%eth0]/", "http://[v1.x]/", "http://[1.2.3.4]/",
    "http://[:::]/", "http://example..com/", "http://.example.com/", "http://example.com../",
    "http://" + "a" * 64 + "/", "http://" + "a." * 127 + "com/", "http://exa%6dple.com/", "http://example.com%2f@127.0.0.1/",
    "http://exa mple.com/", "http://exam'ple.com/", "http://example.com;x/", "http://example.com,x/",
    "http://$(id).example.com/", "http://example.com/\ud800", "http://example.com/" + "a" * 8192,
]  # fmt: skip


@pytest.mark.parametrize("text", TAKEN)
def test_a_plain_url_is_taken(text: str) -> None:
    assert media_url.parse(text) == TAKEN[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_two_parsers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        media_url.parse(text)
    assert caught.value.code == "invalid_image_url"


AUTHORITIES = st.text(st.sampled_from("a.1:@[]/\\?#%-_x0 \té。") | st.sampled_from(string.printable), max_size=24)
PIECES = st.lists(
    st.sampled_from(["127.0.0.1", "8.8.8.8", "example.com", "@", ":", "\\", "/", "//", "#", "?", "%2e", "[", "]", "::1",
                     ".", "0x7f", "80", " ", "\t", "é", "http:", "user"]),
    max_size=8,
).map("".join)  # fmt: skip


@given(st.sampled_from(["http://", "https://", "HTTP://", "http:/", ""]), AUTHORITIES | PIECES)
def test_other_parsers_read_a_taken_url_alike(scheme: str, rest: str) -> None:
    text = scheme + rest
    try:
        url = media_url.parse(text)
    except BadRequest:
        return
    for host, port in (_by_urllib(text), _by_httpx(text)):
        assert _plain(host) == url.host
        assert (port or {"http": 80, "https": 443}[url.scheme]) == url.port
    again = f"{url.scheme}://{url.authority}{url.target}"
    assert media_url.parse(again) == url
    assert again.isascii()


def _by_urllib(text: str) -> tuple[str, int | None]:
    parts = urlsplit(text)
    return parts.hostname or "", parts.port


def _by_httpx(text: str) -> tuple[str, int | None]:
    parts = httpx.URL(text)
    return parts.host, parts.port


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.removesuffix(".")


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/y", "http://a.example:8080/y"),
        ("y", "http://a.example:8080/d/y"),
        ("?r", "http://a.example:8080/d/x?r"),
        ("", "http://a.example:8080/d/"),
        ("//b.example/y", "http://b.example/y"),
        ("https://b.example", "https://b.example/"),
    ],
)
def test_where_a_redirect_leads(location: str, leads_to: str) -> None:
    base = media_url.parse("http://a.example:8080/d/x?q")
    assert media_url.follow(base, location) == media_url.parse(leads_to)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "//u@b/", "/\\x", "/a\tb", "ftp://a/", "data:,x", "@127.0.0.1/ ", "http:x"]
)
def test_a_redirect_is_as_strict(location: str) -> None:
    with pytest.raises(BadRequest):
        media_url.follow(media_url.parse("http://a.example/d/x"), location)


# ---- addresses -------------------------------------------------------------------------------------------------------

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::",
    "3fff::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1", "2606:4700::1%1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.17.0.1",
          "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "2400:cb00::1"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not media_url.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert media_url.is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_special_is_not_public(address: media_url.Address) -> None:
    special = address.is_private or address.is_multicast or address.is_reserved or address.is_loopback
    assert not (special and media_url.is_public(address))


def test_names_that_an_operator_lists() -> None:
    allowed = ("Files.Example.", "*.lan", "[::1]")
    for host, listed in {
        "files.example": True, "x.files.example": False, "nas.lan": True, "lan": False, "::1": True, "evil-lan": False,
    }.items():  # fmt: skip
        assert media_url.is_listed(host, allowed) is listed


def test_private_names_and_ports() -> None:
    for host in ("localhost", "x.localhost", "metadata.google.internal", "printer.local", "nas.lan", "x.home.arpa"):
        assert media_url.is_private_name(host)
    assert not media_url.is_private_name("localhost.example")
    ports = {80: True, 443: True, 8080: True, 1024: True, 22: False, 25: False, 1023: False}
    for scheme, (port, public) in itertools.product(("http", "https"), ports.items()):
        assert media_url.is_public_port(Url(scheme, "a", port, "/")) is public
