"""Fetching what a request names: who is connected to, how much is taken, that a client learns nothing (F35, S-10)."""

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heylook_llm.errors import BadRequest, HeylookError, Overloaded, UnsupportedFeature
from heylook_llm.server import media, media_url
from heylook_llm.server.media import Fetcher, MediaOptions
from tests.server.web import drop_by_drop, for_ever, moved, never, page, web

pytestmark = pytest.mark.integration

TLS = Path(__file__).parent.parent / "golden" / "tls"
LISTED = MediaOptions(allow_hosts=("images.test",))
PNG = b"\x89PNG and so on"


class Names:
    """A resolver: what each name resolves to, and who asked. A list of lists is answered one after the other."""

    def __init__(self, **addresses: Any) -> None:
        self.addresses = {name.replace("_", "."): list(known) for name, known in addresses.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        """As socket.getaddrinfo."""
        self.asked.append(host)
        if host not in self.addresses:
            raise socket.gaierror("unknown")
        known = self.addresses[host]
        found = known.pop(0) if known and isinstance(known[0], list) else known
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in found]


def fetcher(options: MediaOptions = LISTED, names: Callable[..., Any] | None = None, **more: Any) -> Fetcher:
    names = names or Names(images_test=["127.0.0.1"])
    return Fetcher(options, getaddrinfo=names, **{"seconds": 5.0, **more})


async def fetched(by: Fetcher, url: str) -> bytes:
    return await by.fetch(by.check(url))


async def failure(by: Fetcher, url: str) -> HeylookError:
    """The error that a client gets; of a failed fetch it is one text."""
    with pytest.raises(BadRequest) as caught:
        await fetched(by, url)
    if caught.value.code == "media_fetch_failed":
        assert caught.value.message == media.FAILED
    return caught.value


async def test_it_fetches_what_a_listed_host_has() -> None:
    names = Names(images_test=["127.0.0.1"])
    async with web(a=page(PNG)) as server:
        assert await fetched(fetcher(names=names), server.url("/a", "images.test")) == PNG
        assert names.asked == ["images.test"]
        head = server.requests[0].decode().lower()
    assert head.startswith("get /a http/1.1\r\n")
    assert f"host: images.test:{server.port}\r\n" in head
    assert "accept-encoding: identity" in head
    for word in ("cookie", "authorization", "referer"):
        assert word not in head


# ---- S-10: private addresses, however they are written --------------------------------------------------------------

ADDRESSES = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "fc00::1", "fe80::1", "64:ff9b::7f00:1",
    "2002:7f00:1::", "ff02::1",
]  # fmt: skip
WRITTEN = [
    "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1", "localhost", "localhost.", "x.localhost",
    "LOCALHOST", "metadata.google.internal", "metadata.goog.", "127.0.0.1.", "user@127.0.0.1", "8.8.8.8@127.0.0.1",
]  # fmt: skip


async def test_no_private_address_is_connected_to() -> None:
    public = MediaOptions()
    async with web() as server, web("0.0.0.0") as everywhere:
        for target in (server, everywhere):
            for address in ADDRESSES:
                literal = f"[{address}]" if ":" in address else address
                assert (await failure(fetcher(public), target.url("/", literal))).code == "media_fetch_failed"
                by_name = fetcher(public, Names(a_example=[address]))
                assert (await failure(by_name, target.url("/", "a.example"))).code == "media_fetch_failed"
                mixed = fetcher(public, Names(a_example=["127.0.0.1", address, "8.8.8.8"]))
                await failure(mixed, target.url("/", "a.example"))
            for host in WRITTEN:
                loopback = lambda name, port, **_: Names(x=["127.0.0.1"])("x", port)  # noqa: E731
                await failure(fetcher(public, loopback), target.url("/", host))
        assert (server.connections, everywhere.connections) == (0, 0)


async def test_this_machines_own_public_address_is_private() -> None:
    async with web() as server:
        own = fetcher(MediaOptions(), Names(a_example=["8.8.4.4"]), own_addresses=lambda: frozenset({"8.8.4.4"}))
        await failure(own, server.url("/", "a.example"))
        await failure(own, server.url("/", "8.8.4.4"))
        assert server.connections == 0


async def test_only_web_servers_ports_are_public() -> None:
    names = Names(a_example=["127.0.0.1"])
    for port in (22, 25, 110, 1023):
        await failure(fetcher(MediaOptions(), names), f"http://a.example:{port}/")
    assert names.asked == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "/etc/passwd", "../x.png", "ftp://images.test/", "", "x"])
async def test_what_is_no_web_url_is_never_opened(url: str) -> None:
    names = Names()
    assert (await failure(fetcher(names=names), url)).code == "invalid_image_url"
    assert names.asked == []


async def test_an_operator_may_switch_it_off_or_list_the_hosts() -> None:
    async with web(a=page(PNG)) as server:
        with pytest.raises(UnsupportedFeature, match="not fetched"):
            fetcher(MediaOptions("off", ("images.test",))).check(server.url("/a", "images.test"))
        listed = fetcher(MediaOptions("listed", ("images.test",)))
        assert await fetched(listed, server.url("/a", "images.test")) == PNG
        names = Names(other_test=["8.8.8.8"])
        await failure(fetcher(MediaOptions("listed", ("images.test",)), names), server.url("/a", "other.test"))
        assert names.asked == []


# ---- S-11: the address that is connected to is the one that was approved --------------------------------------------


async def test_a_name_is_resolved_once_and_just_that_is_connected_to() -> None:
    async with web(a=page(PNG)) as first, web("127.0.0.2", a=page(b"other")) as second:
        names = Names(images_test=[["127.0.0.1"], ["127.0.0.2"]])
        by = fetcher(names=names)
        assert await fetched(by, first.url("/a", "images.test")) == PNG
        assert names.asked == ["images.test"]
        assert (first.connections, second.connections) == (1, 0)


async def test_of_several_addresses_the_next_is_tried() -> None:
    async with web("127.0.0.2", a=page(PNG)) as server:
        by = fetcher(names=Names(images_test=["127.0.0.1", "127.0.0.2"]))
        assert await fetched(by, server.url("/a", "images.test")) == PNG


async def test_tls_names_the_host_and_checks_its_certificate() -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(TLS / "images.test.pem", TLS / "images.test.key")
    seen: list[str | None] = []
    serving.sni_callback = lambda _, name, __: seen.append(name)
    trust = ssl.create_default_context(cafile=TLS / "images.test.pem")
    options = MediaOptions(allow_hosts=("images.test", "other.test"))
    names = Names(images_test=["127.0.0.1"], other_test=["127.0.0.1"])
    async with web(tls=serving, a=page(PNG)) as server:
        by = fetcher(options, names, trust=trust)
        assert await fetched(by, server.url("/a", "images.test", "https")) == PNG
        assert seen == ["images.test"]
        assert f"Host: images.test:{server.port}".encode() in server.requests[0]
        await failure(by, server.url("/a", "other.test", "https"))
        await failure(fetcher(options, names), server.url("/a", "images.test", "https"))
        assert len(server.requests) == 1


# ---- S-12: redirects -------------------------------------------------------------------------------------------------


async def test_redirects_are_followed_within_the_same_rules() -> None:
    async with web(end=page(PNG), b=moved("/end", 307), c=moved("b", 301)) as server:
        server.pages["/a"] = moved(server.url("/c", "images.test"))
        assert await fetched(fetcher(), server.url("/a", "images.test")) == PNG
        assert len(server.requests) == 4


async def test_a_redirect_leads_to_no_private_place() -> None:
    async with web() as server, web(a=page(b"secret")) as inner:
        by = fetcher(names=Names(images_test=["127.0.0.1"], rebound_example=["127.0.0.1"]))
        places = [
            inner.url("/a"), inner.url("/a", "localhost"), inner.url("/a", "[::1]"), inner.url("/a", "rebound.example"),
            inner.url("/a", "u@images.test"), "file:///etc/passwd", "gopher://127.0.0.1/", "//127.0.0.1/", "/a b",
            "\\\\127.0.0.1\\", "http://0x7f.1/",
        ]  # fmt: skip
        for place in places:
            server.pages["/a"] = moved(place)
            assert (await failure(by, server.url("/a", "images.test"))).code == "media_fetch_failed"
        assert inner.connections == 0
        assert server.connections == len(places)


async def test_redirects_without_end_are_given_up() -> None:
    async with web(a=moved("/b"), b=moved("/a")) as server:
        await failure(fetcher(), server.url("/a", "images.test"))
        assert len(server.requests) == media.REDIRECTS + 1


# ---- F35: servers that don't answer as they should ------------------------------------------------------------------

MANY_HEADERS = "\r\n".join(f"X-{at}: {'y' * 1000}" for at in range(200))


@pytest.mark.parametrize(
    "reply",
    [
        page(b"secret", status="500 Oh"),
        page(b"secret", status="206 Partial Content"),
        page(b"", status="304 Not Modified"),
        page(gzip.compress(bytes(1 << 20)), "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        f"HTTP/1.1 200 OK\r\n{MANY_HEADERS}\r\n\r\n".encode(),
        b"SSH-2.0-OpenSSH_9.6 secret\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"",
        for_ever,
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_answer_is_one_text(reply: Any) -> None:
    async with web(a=reply) as server:
        assert (await failure(fetcher(), server.url("/a", "images.test"))).code == "media_fetch_failed"
        for quiet in ("/404", "/a"):
            error = await failure(fetcher(), server.url(quiet, "images.test"))
            assert "secret" not in str(error)


async def test_a_server_that_sends_more_than_it_says_is_cut() -> None:
    async with web(a=b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef") as server:
        assert await fetched(fetcher(), server.url("/a", "images.test")) == b"abc"


@pytest.mark.parametrize("reply", [never, drop_by_drop], ids=["never", "drop by drop"])
async def test_the_deadline_holds_for_all_of_it(reply: Any) -> None:
    async with web(a=reply, b=moved("/a")) as server:
        assert (await failure(fetcher(seconds=0.2), server.url("/b", "images.test"))).code == "media_fetch_failed"
        await asyncio.wait_for(server.left.wait(), 5)


async def test_whoever_leaves_closes_the_connection() -> None:
    begun = asyncio.Event()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await never(reader, writer)

    async with web(a=held) as server:
        task = asyncio.create_task(fetched(fetcher(), server.url("/a", "images.test")))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(server.left.wait(), 5)


class StuckNames(Names):
    """A resolver that answers for `stuck.test` only once it is let go."""

    def __init__(self) -> None:
        super().__init__(stuck_test=["127.0.0.1"], images_test=["127.0.0.1"])
        self.let_go = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, host: str, port: int, **more: Any) -> list[tuple[Any, ...]]:
        """As socket.getaddrinfo."""
        if host == "stuck.test":
            self.entered.release()
            self.let_go.wait(30)
        return super().__call__(host, port, **more)


async def test_a_resolver_that_does_not_answer_holds_nobody_else() -> None:
    names = StuckNames()
    by = fetcher(MediaOptions(allow_hosts=("stuck.test", "images.test")), names)
    async with web(a=page(PNG)) as server:
        try:
            waiting = [
                asyncio.create_task(fetched(by, server.url("/a", "stuck.test"))) for _ in range(media.FETCHES - 1)
            ]
            for _ in waiting:
                assert await asyncio.to_thread(names.entered.acquire, timeout=10)
            assert await fetched(by, server.url("/a", "images.test")) == PNG
            # Whoever leaves leaves the thread behind, which counts until it ends.
            waiting.pop().cancel()
            waiting.append(asyncio.create_task(fetched(by, server.url("/a", "stuck.test"))))
            assert await asyncio.to_thread(names.entered.acquire, timeout=10)
            late = asyncio.create_task(fetched(by, server.url("/a", "images.test")))
            assert not (await asyncio.wait({late}, timeout=0.2))[0]
            assert server.connections == 1
        finally:
            names.let_go.set()
        assert await asyncio.gather(late, *waiting) == [PNG] * (len(waiting) + 1)


async def test_so_many_are_fetched_at_a_time() -> None:
    async with web(a=never) as server:
        by = fetcher(seconds=0.3)
        url = server.url("/a", "images.test")
        results = await asyncio.gather(*(fetched(by, url) for _ in range(3 * media.FETCHES)), return_exceptions=True)
    kinds = [type(result) for result in results]
    assert kinds.count(BadRequest) + kinds.count(Overloaded) == len(results)
    assert Overloaded in kinds
    assert server.connections <= 2 * media.FETCHES


async def test_the_limit_is_of_what_is_sent() -> None:
    async with web(a=page(bytes(media.MAX_BYTES)), b=page(bytes(media.MAX_BYTES + 1))) as server:
        assert len(await fetched(fetcher(), server.url("/a", "images.test"))) == media.MAX_BYTES
        await failure(fetcher(), server.url("/b", "images.test"))


def test_the_url_is_parsed_where_it_is_checked() -> None:
    assert fetcher().check("http://images.test/a") == media_url.parse("http://images.test/a")
