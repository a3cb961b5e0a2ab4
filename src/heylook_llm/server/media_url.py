"""Which URLs of images are taken, and which addresses are public: pure, so that each is decided in one place.

A URL is parsed once, here. What comes out is what is connected to, asked for and named in the certificate: no second
parser can read it otherwise.
"""

import ipaddress
import re
from typing import Final, NoReturn
from urllib.parse import quote

import msgspec

from heylook_llm.errors import BadRequest

MAX_URL: Final = 8192
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE,
)
_UNSAFE: Final = re.compile(r"[\x00-\x20\\\x7f-\xa0\s]")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FIRST_FREE_PORT: Final = 1024
_PRIVATE_NAMES: Final = ("localhost", "local", "internal", "lan", "home", "corp", "intranet", "home.arpa")
"""Names that only mean something within a network, and those below them."""
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
"""IANA's special-purpose registries, beside what lies outside of _GLOBAL_UNICAST."""
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""The only part of IPv6 from which public addresses are given: mapped, translated and local ones lie outside."""


class Url(msgspec.Struct, frozen=True):
    """A URL as it is asked for."""

    scheme: str
    host: str
    """A lower-case name without a final dot, or an address without brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def address(self) -> Address | None:
        """The host, where it is an address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(text: str) -> Url:
    """The URL of a text. Raises BadRequest for all that isn't a plain http(s) URL of a host."""
    if len(text) > MAX_URL:
        _refuse(f"is longer than {MAX_URL} characters")
    if _UNSAFE.search(text):
        _refuse("holds a space, a control character or a backslash")
    found = _URL.fullmatch(text)
    if found is None:
        _refuse("must be http:// or https://, a host in ASCII without a user name, perhaps a port, and a path")
    scheme = found["scheme"].lower()
    port = int(found["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        _refuse("has a port that isn't one")
    target = (found["path"] or "/") + (found["query"] or "")
    return Url(scheme, _host(found["host"].lower()), port, _ascii(target))


def follow(base: Url, location: str) -> Url:
    """Where a redirect leads. Raises BadRequest."""
    if _SCHEME.match(location):
        return parse(location)
    if location.startswith("//"):
        return parse(f"{base.scheme}:{location}")
    path = base.target.partition("?")[0]
    if location.startswith("?"):
        location = path + location
    elif not location.startswith("/"):
        location = path.rpartition("/")[0] + "/" + location
    return parse(f"{base.scheme}://{base.authority}{location}")


def _host(text: str) -> str:
    """A host in one spelling: numbers that only some parsers read as addresses are refused."""
    try:
        if text.startswith("["):
            return str(ipaddress.IPv6Address(text[1:-1]))
        name = text.removesuffix(".")
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            return str(ipaddress.IPv4Address(name))
    except ValueError:
        _refuse("has a host that isn't a plain address")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        _refuse("has a host that isn't a name")
    return name


def _ascii(target: str) -> str:
    """A path and query with what isn't ASCII in percent signs, as browsers send it."""
    try:
        return target if target.isascii() else quote(target, safe="".join(map(chr, range(0x21, 0x7F))))
    except UnicodeEncodeError:
        _refuse("holds a lone surrogate")


def _refuse(reason: str) -> NoReturn:
    raise BadRequest(f"The image's URL {reason}.", code="invalid_image_url")


# ---- who may be connected to -----------------------------------------------------------------------------------------


def is_listed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether an operator names this host: itself, or as `*.example.com` those below it."""
    names = (name.strip().lower().strip("[]").removesuffix(".") for name in allowed)
    return any(host.endswith(name[1:]) if name.startswith("*.") else host == name for name in names)


def is_private_name(host: str) -> bool:
    """Whether a name means something only within a network."""
    return any(host == name or host.endswith("." + name) for name in _PRIVATE_NAMES)


def is_public_port(url: Url) -> bool:
    """Whether it is a web server's: of those below 1024 only the two of http and https are."""
    return url.port in _PORTS.values() or url.port >= _FIRST_FREE_PORT


def is_public(address: Address) -> bool:
    """Whether anybody on the internet has this address."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _GLOBAL_UNICAST or address.scope_id):
        return False
    return not any(address in network for network in _SPECIAL if network.version == address.version)
