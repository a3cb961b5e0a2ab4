"""What finding the longest common beginning costs, with many kept sequences and long prompts.

    python -m benchmarks.prefix_lookup --kept 10 100 1000 5000 --tokens 1000 10000 --shared 0.5

The peer compares the prompt with each kept sequence in turn, by slices as fast as C. Printed: medians of microseconds
for one look-up by the tree, for one by the peer, and for keeping and forgetting one sequence.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from random import Random

from heylook_llm.worker.tree import Tree, common_prefix


def microseconds(work: Callable[[], object], rounds: int) -> float:
    """The median of so many calls."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def measure(kept: int, tokens: int, shared: float, rounds: int) -> None:
    """Sequences that all begin with the same part, and go on differently."""
    random = Random(3)  # noqa: S311  # the same tokens every time
    opening = [random.randrange(50_000) for _ in range(int(tokens * shared))]

    def another() -> list[int]:
        return opening + [random.randrange(50_000) for _ in range(tokens - len(opening))]

    sequences = [another() for _ in range(kept)]
    tree: Tree[int] = Tree()
    for key, sequence in enumerate(sequences):
        tree.add(key, sequence)
    asked = sequences[kept // 2][: tokens * 9 // 10] + [-1] * (tokens // 10)
    expected = max(range(kept), key=lambda key: common_prefix(sequences[key], asked))
    assert next(tree.matches(asked))[0] == expected
    by_tree = microseconds(lambda: next(tree.matches(asked)), rounds)
    in_turn = microseconds(lambda: max(common_prefix(one, asked) for one in sequences), max(3, rounds // 10))

    def keep_and_forget() -> None:
        tree.add(-1, asked)
        tree.remove(-1)

    changing = microseconds(keep_and_forget, rounds)
    print(
        f"{kept:6} kept, {tokens:6} tokens   {by_tree:9.1f} by tree {in_turn:12.1f} in turn {changing:9.1f} to change"
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Look-ups of prefixes.")
    parser.add_argument("--kept", type=int, nargs="+", default=[10, 100, 1000, 5000])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--shared", type=float, default=0.5, help="part of the tokens that all sequences begin with")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    for tokens in arguments.tokens:
        for kept in arguments.kept:
            measure(kept, tokens, arguments.shared, arguments.rounds)


if __name__ == "__main__":
    main()
