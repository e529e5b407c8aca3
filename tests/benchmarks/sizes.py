"""Print the lines of the package and of the tests, by room: `python -m tests.benchmarks.sizes [FOLDER]`.

Lines are of code, of docstrings, or others: comments and empty lines. FOLDER is a checkout, by default the working one.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def sizes(text: str) -> Counter[str]:
    """Count the lines of a Python file by kind.

    >>> sorted(sizes('"A file."\\n\\nx = [\\n    1,  # one\\n]\\n').items())
    [('code', 3), ('docstrings', 1), ('files', 1), ('lines', 5), ('others', 1)]
    """
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            documented |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    code -= documented
    lines = text.count("\n")
    others = lines - len(code) - len(documented)
    return Counter(files=1, lines=lines, code=len(code), docstrings=len(documented), others=others)


def main(root: Path) -> None:
    """Print a table of each of the two folders."""
    kinds = ("files", "lines", "code", "docstrings", "others")
    for name in ("lightning_advdrop", "tests"):
        rooms: dict[str, Counter[str]] = {}
        for path in sorted((root / name).rglob("*.py")):
            inside = path.relative_to(root / name).parts
            room = inside[0] if len(inside) > 1 else "(top)"
            rooms[room] = rooms.get(room, Counter()) + sizes(path.read_text(encoding="utf-8"))
        rooms["all"] = sum(rooms.values(), Counter())
        print(f"{name:20}", *(f"{kind:>10}" for kind in kinds))
        for room, counts in rooms.items():
            print(f"{room:20}", *(f"{counts[kind]:10}" for kind in kinds))
        print()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
