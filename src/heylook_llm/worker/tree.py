"""Token sequences by their beginnings: which of them have the longest prefix in common with another."""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Generic, TypeVar

Key = TypeVar("Key")


def common_prefix(left: Seq[int], right: Seq[int]) -> int:
    """How many leading tokens two sequences have in common; slices compare at the speed of C."""
    low, high = 0, min(len(left), len(right))
    if high == 0 or left[0] != right[0]:
        return 0
    if left[:high] == right[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


class _Node(Generic[Key]):
    """A place where sequences part or end. `edge` is the tokens from its parent to it."""

    __slots__ = ("children", "depth", "edge", "keys", "parent")

    def __init__(self, edge: list[int], parent: "_Node[Key] | None") -> None:
        self.edge = edge
        self.parent = parent
        self.depth: int = len(edge) + (parent.depth if parent is not None else 0)
        self.children: dict[int, _Node[Key]] = {}
        self.keys: dict[Key, None] = {}
        """The sequences that end here, in the order in which they came."""

    def walk(self) -> Iterator["_Node[Key]"]:
        """This node and all below it."""
        nodes = [self]
        while nodes:
            node = nodes.pop()
            yield node
            nodes.extend(node.children.values())


class Tree(Generic[Key]):
    """A radix tree: a look-up costs one comparison of the tokens that match, however many sequences are kept."""

    def __init__(self) -> None:
        self._root: _Node[Key] = _Node([], None)
        self._ends: dict[Key, _Node[Key]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, key: Key) -> bool:
        return key in self._ends

    def length(self, key: Key) -> int:
        """Tokens of a kept sequence."""
        return self._ends[key].depth

    def tokens(self, key: Key) -> list[int]:
        """A kept sequence."""
        edges: list[list[int]] = []
        node: _Node[Key] | None = self._ends[key]
        while node is not None:
            edges.append(node.edge)
            node = node.parent
        return [token for edge in reversed(edges) for token in edge]

    def add(self, key: Key, tokens: list[int]) -> None:
        """Keep a sequence; what the key stood for before is forgotten."""
        self.remove(key)
        node, at = self._descend(tokens)
        if at < node.depth:
            node = self._split(node, at)
        if at < len(tokens):
            leaf: _Node[Key] = _Node(tokens[at:], node)
            node.children[tokens[at]] = leaf
            node = leaf
        node.keys[key] = None
        self._ends[key] = node

    def remove(self, key: Key) -> None:
        """Forget a sequence, if it is kept."""
        node = self._ends.pop(key, None)
        if node is None:
            return
        del node.keys[key]
        while node.parent is not None and not node.keys and not node.children:
            del node.parent.children[node.edge[0]]
            node = node.parent
        if node.parent is not None and not node.keys and len(node.children) == 1:
            self._join(node)

    def matches(self, tokens: list[int]) -> Iterator[tuple[Key, int]]:
        """(key, tokens in common) of all that begin alike, the longest in common first."""
        node, at = self._descend(tokens)
        below: _Node[Key] | None = None
        common = at
        up: _Node[Key] | None = node
        while up is not None and common > 0:
            for other in _others(up, below):
                for key in other.keys:
                    yield key, common
            below, up = up, up.parent
            common = up.depth if up is not None else 0

    def whole(self, tokens: list[int]) -> Iterator[tuple[Key, int]]:
        """(key, its length) of all that these tokens begin with, the longest first."""
        node, at = self._descend(tokens)
        up = node if at == node.depth else node.parent
        while up is not None:
            for key in up.keys:
                yield key, up.depth
            up = up.parent

    def _descend(self, tokens: list[int]) -> tuple[_Node[Key], int]:
        """(the node reached, tokens in common): a node deeper than these is reached only in part."""
        node, at = self._root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                break
            common = common_prefix(child.edge, tokens[at : at + len(child.edge)])
            node, at = child, at + common
            if common < len(child.edge):
                break
        return node, at

    @staticmethod
    def _split(node: _Node[Key], depth: int) -> _Node[Key]:
        """A new node in the middle of the edge to this one."""
        parent = node.parent
        assert parent is not None, "the root has no edge"
        length = depth - parent.depth
        upper: _Node[Key] = _Node(node.edge[:length], parent)
        parent.children[node.edge[0]] = upper
        node.edge = node.edge[length:]
        node.parent = upper
        upper.children[node.edge[0]] = node
        return upper

    @staticmethod
    def _join(node: _Node[Key]) -> None:
        """Take a node with one child out of the middle of an edge."""
        [child] = node.children.values()
        parent = node.parent
        assert parent is not None, "the root stays"
        child.edge = node.edge + child.edge
        child.parent = parent
        parent.children[child.edge[0]] = child


def _others(node: _Node[Key], without: _Node[Key] | None) -> Iterator[_Node[Key]]:
    """A node and all below it but those below one child."""
    yield node
    for child in node.children.values():
        if child is not without:
            yield from child.walk()
