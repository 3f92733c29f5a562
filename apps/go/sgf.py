"""SGF FF[4] (Hollosi 1999) as a tree of nodes: variations, unknown properties, escapes, rectangular boards.

The grammar is sgfmill's; its game objects know square boards only, so the tree is ours. Nothing here knows the rules:
`Game.from_sgf` plays the main line, `Game.to_tree` writes one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sgfmill import sgf_grammar

LARGEST, MOST_NODES, LARGEST_BOARD = 4_000_000, 50_000, 19
"""Bytes, nodes and points along an edge."""
_VALUE = re.compile(rb"\[[^\\\]]*(?:\\.[^\\\]]*)*\]", re.DOTALL)
_CHARSET = re.compile(rb"\bCA\s*\[\s*([A-Za-z0-9_.:-]{1,40})\s*\]")

_CHARSETS = ("utf", "ascii", "iso", "cp", "gb", "big5", "euc", "shift", "koi8", "mac")  # punycode takes hours


@dataclass(eq=False)
class Node:
    """One node; its values are kept as they stand between the brackets, escapes included."""

    properties: dict[str, list[str]] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list, repr=False)

    def text(self, name: str, default: str = "") -> str:
        """The first value of a property as text, its escapes and line ends resolved."""
        if name not in self.properties:
            return default
        return sgf_grammar.text_value(self.properties[name][0].encode()).decode()

    def put(self, name: str, *texts: str) -> None:
        """Sets a property to values given as text, which are escaped."""
        self.properties[name] = [sgf_grammar.escape_text(_encoded(text)).decode() for text in texts]

    def add(self, properties: dict[str, list[str]] | None = None) -> Node:
        """Appends a child, which is returned."""
        child = Node(dict(properties or {}))
        self.children.append(child)
        return child

    def walk(self) -> Iterator[Node]:
        """This node and all below, each before its children."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def main_line(self) -> list[Node]:
        """This node and the first child of each from here on."""
        line = [self]
        while line[-1].children:
            line.append(line[-1].children[0])
        return line


def read(text: str | bytes) -> Node:
    """Reads the first game of an SGF file; text around it is skipped.

    Bytes are decoded as the file's CA says, else as UTF-8, else as Latin-1; the tree's CA says UTF-8 then.

    Raises:
        ValueError: in one sentence, if it is no SGF, broken, or beyond the limits of this module.
    """
    if len(text) > LARGEST:
        raise ValueError(f"the SGF file has {len(text):,} bytes; at most {LARGEST:,} are read")
    data = _encoded(text if isinstance(text, str) else _decoded(text))
    if _VALUE.sub(b"", data).count(b";") > MOST_NODES:
        raise ValueError(f"the SGF file has more than {MOST_NODES:,} nodes; split it")
    try:
        tree = sgf_grammar.parse_sgf_game(data)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"this is not a readable SGF file: {error or 'broken brackets'}") from error
    root = Node()
    pending = [(root, tree)]
    while pending:
        node, coarse = pending.pop()
        for i, values in enumerate(coarse.sequence):
            node = node if i == 0 else node.add()
            node.properties = {key: [value.decode() for value in row] for key, row in values.items()}
            if "" in values:
                raise ValueError("this is not a readable SGF file: a property's name has no capital letter")
        children = [Node() for _ in coarse.children]
        node.children.extend(children)
        pending.extend(zip(children, coarse.children, strict=True))
    if "CA" in root.properties:
        root.properties["CA"] = ["UTF-8"]
    return root


def write(root: Node) -> str:
    """The SGF text of a tree, its lines short where its values are."""
    tree = sgf_grammar.Coarse_game_tree()
    pending = [(tree, root)]
    while pending:
        coarse, node = pending.pop()
        while True:
            coarse.sequence.append({key: [_encoded(v) for v in row] for key, row in node.properties.items()})
            if len(node.children) != 1:
                break
            node = node.children[0]
        for child in node.children:
            coarse.children.append(sgf_grammar.Coarse_game_tree())
            pending.append((coarse.children[-1], child))
    return sgf_grammar.serialise_game_tree(tree).decode()


def board_size(root: Node) -> tuple[int, int]:
    """Rows and columns; 19x19 where the file does not say.

    Raises:
        ValueError: if the size is not one that is played here.
    """
    found = re.fullmatch(r"\s*(\d{1,4})\s*(?::\s*(\d{1,4})\s*)?", root.text("SZ", "19"))
    columns = int(found[1]) if found else 0
    rows = int(found[2] or columns) if found else 0
    if not (1 <= rows <= LARGEST_BOARD and 1 <= columns <= LARGEST_BOARD):
        raise ValueError(f"the SGF file's board is {root.text('SZ')[:20]!r}; 1 to {LARGEST_BOARD} points along an edge "
                         "are read")
    return rows, columns


def to_point(value: str, rows: int, columns: int) -> tuple[int, int] | None:
    """Row from the top and column of a point such as "cd"; None for a pass, "" or the old "tt".

    Raises:
        ValueError: if it is not on the board.
    """
    value = value.strip()
    if value in ("", "tt"):
        return None
    column, row = (ord(value[0]) - 97, ord(value[1]) - 97) if len(value) == 2 else (-1, -1)
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(f"the SGF file has a stone at {value[:20]!r}, which is not on its board of {rows}x{columns}")
    return row, column


def from_point(row: int, column: int) -> str:
    """A point as SGF writes it: the column's letter, then the row's, both from the top left."""
    return chr(97 + column) + chr(97 + row)


def to_points(values: list[str], rows: int, columns: int) -> list[tuple[int, int]]:
    """The points of a list, in which "aa:cc" stands for a whole rectangle."""
    points = []
    if len(values) > rows * columns:
        raise ValueError(f"the SGF file puts {len(values):,} stones on a board of {rows}x{columns} at once")
    for value in values:
        first, colon, last = value.partition(":")
        a = to_point(first, rows, columns)
        b = to_point(last, rows, columns) if colon else a
        if a is None or b is None:
            if value.strip():
                raise ValueError(f"the SGF file has a stone at {value[:20]!r}, which is no point")
            continue
        points += [(row, column) for row in range(min(a[0], b[0]), max(a[0], b[0]) + 1)
                   for column in range(min(a[1], b[1]), max(a[1], b[1]) + 1)]
    return points


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # half a surrogate pair is not text


def _decoded(data: bytes) -> str:
    named = _CHARSET.search(data)
    for charset in (named[1].decode(), "utf-8") if named else ("utf-8",):
        try:
            if codecs.lookup(charset).name.startswith(_CHARSETS):
                return data.decode(charset)
        except (LookupError, UnicodeError):
            continue
    return data.decode("latin-1")
