"""What is sent to every server alike: chats of random words, never the same twice, so that no cache knows a prompt."""

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

WORDS: Final = (
    "about after again answer before bird blue book brave bridge called capital careful carries city clean clever code "
    "comes count curious day does end every evening fast favourite find follows forest fox friend friendly frog from "
    "garden golden good great happy heavy help home house kind know lamp letter like little lived long many mode month "
    "morning mountain name new next night number old open opposite over people please polite question quiet red "
    "remember repeat right river round school secret short silver slow small soft spell square story table tall tell "
    "thank that there they this time tiny tired tree true under upon very visits want warm weather what which white "
    "window with word would write yellow young your"
)

LATE_AFTER_EVENTS: Final = 8
"""Each stream has got so many before the long prompt comes."""


class Sizes(NamedTuple):
    """Tokens of an answer, so that a round takes seconds with a slow model and isn't over at once with a fast one."""

    one: int
    many: int
    streams: int
    late: int
    short: int


class Chat(NamedTuple):
    """One request."""

    user: str
    max_tokens: int
    system: str | None = None

    def body(self, model: str, extra: dict[str, Any]) -> dict[str, Any]:
        """The same for every server, but for `extra`: how it is told not to end early."""
        messages = [{"role": "user", "content": self.user}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        fields = {"model": model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0}
        return fields | {"stream": True, "stream_options": {"include_usage": True}} | extra


class Plan(NamedTuple):
    """Chats sent at once, and one that comes when all of those are being answered."""

    chats: list[Chat]
    late: Chat | None = None


class Author:
    """Writes prompts; the same seed, the same prompts."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311  # no secret

    def text(self, words: int) -> str:
        """Words after a number that makes every text another one from its start on."""
        return " ".join([f"{self._random.getrandbits(48):015d}", *self._random.choices(WORDS.split(), k=words - 1)])


class Workload(NamedTuple):
    """A name, what it is, and how its plan is written."""

    name: str
    what: str
    plan: Callable[[Author, Sizes], Plan]


def _one(author: Author, sizes: Sizes) -> Plan:
    return Plan([Chat(author.text(50), sizes.one)])


def _eight(author: Author, sizes: Sizes) -> Plan:
    return Plan([Chat(author.text(50), sizes.many) for _ in range(8)])


def _shared(author: Author, sizes: Sizes) -> Plan:
    system = author.text(600)
    return Plan([Chat(author.text(20), sizes.many, system) for _ in range(8)])


def _late(author: Author, sizes: Sizes) -> Plan:
    streams = [Chat(author.text(50), sizes.streams) for _ in range(7)]
    return Plan(streams, Chat(author.text(2500), sizes.late))


def _short(author: Author, sizes: Sizes) -> Plan:
    return Plan([Chat(author.text(12), sizes.short) for _ in range(32)])


WORKLOADS: Final = (
    Workload("one", "1 client", _one),
    Workload("eight", "8 clients", _eight),
    Workload("shared", "8 clients, one system prompt of 600 words", _shared),
    Workload("late", "a prompt of 2,500 words comes while 7 streams decode", _late),
    Workload("short", "32 short requests at once", _short),
)
