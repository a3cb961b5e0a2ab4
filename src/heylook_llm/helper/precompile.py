"""Compiles a grammar where it can do no harm: `python -m heylook_llm.helper.precompile`, the grammar on its stdin.

A verdict comes on its stdout: {"error": text or null, "ignored": [keywords that can't be followed]}. Besides compiling
it follows the grammar a little way, because some are small and become costly only then.
"""

import importlib.machinery
import importlib.util
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from heylook_llm.helper import limits

MEMORY_BYTES: Final = 1 << 30
COMPILE_SECONDS: Final = 0.4
SECONDS_A_BYTE: Final = 5e-6
"""Of the processor's time, for all of it: the calls of a hundred honest tools are half a megabyte of grammar."""
MASK_SECONDS: Final = 0.03
"""Of the processor's time, for one mask over a vocabulary of bytes: some 0.1 ms is usual."""
STEPS: Final = 48
STACK_BYTES: Final = 1 << 20
"""What recursion finds in it fits in any thread of a worker."""
_IGNORED: Final = re.compile(r'Unimplemented keys: (\[.*?\])|Unknown format: "?([\w.-]+)', re.DOTALL)


def main() -> None:
    """Print the verdict on the grammar of stdin."""
    limits.confine(memory_bytes=MEMORY_BYTES)
    source = sys.stdin.buffer.read().decode("utf-8", "replace")
    llguidance = _library()  # within the limits
    limits.allow_seconds(COMPILE_SECONDS + SECONDS_A_BYTE * len(source))
    verdict: dict[str, Any] = {}
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=lambda: verdict.update(_verdict(llguidance, source)))
    thread.start()
    thread.join()
    sys.stdout.write(json.dumps(verdict))


def _library() -> Any:
    """llguidance's own module, without the package around it, whose imports take longer than most grammars."""
    package = importlib.util.find_spec("llguidance")
    assert package is not None, "it is one of our requirements"
    spec = importlib.machinery.PathFinder.find_spec("_lib", package.submodule_search_locations)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _verdict(llguidance: Any, source: str) -> dict[str, Any]:
    quiet = llguidance.LLParserLimits(verbose_errors=False)
    wrong, messages = llguidance.LLMatcher.validate_grammar_with_warnings(source, None, limits=quiet)
    if wrong:
        return {"error": messages[0] if messages else "it can't be compiled", "ignored": []}
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte", slices=[]), source, limits=quiet, log_level=0)
    return {"error": matcher.get_error() or _follow(matcher), "ignored": _ignored(messages)}


def _follow(matcher: Any) -> str | None:
    """What goes wrong on a random way into the grammar; None: nothing."""
    for chance in _chances(STEPS):
        start = time.thread_time()
        bits = int.from_bytes(matcher.compute_bitmask(), "little")
        if matcher.get_error():
            return str(matcher.get_error())
        if time.thread_time() - start > MASK_SECONDS:
            return "it is too ambiguous: finding out what may come next takes too long"
        allowed = [byte for byte in range(256) if bits >> byte & 1]
        if not allowed or not matcher.consume_token(allowed[chance % len(allowed)]) or matcher.is_stopped():
            return None
    return None


def _chances(count: int) -> Iterator[int]:
    """Numbers that look random, the same ones each time. `random` is slow to import."""
    number = 1
    for _ in range(count):
        number = number * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        yield number >> 33


def _ignored(messages: list[str]) -> list[str]:
    """The keywords that the warnings name."""
    found: list[str] = []
    for keys, form in _IGNORED.findall("\n".join(messages)):
        found += json.loads(keys) if keys else [f"format={form}"]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    main()
