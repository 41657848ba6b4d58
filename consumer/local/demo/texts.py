"""Real text that every Python machine has: docstrings of the standard library and topics of the language manual.

Sources are parsed, never imported: some modules of the standard library act when imported.
"""

from __future__ import annotations

import ast
import random
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from consumer.errors import Exit, Stop

# Tests, tools and look-alikes of modules: nobody searches for them.
_SKIPPED = {
    "__phello__",
    "config",
    "dist-packages",
    "distutils",
    "encodings",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtle.py",
    "turtledemo",
}
_SHORTEST = 40  # characters: "See base class." teaches nobody
_LONGEST_TOPIC = 3500  # a few texts of many chunks; the rest is short, so that two cores embed all of it in a minute
_LONGEST_DOCSTRING = 400
_FEWEST = 100


@dataclass(frozen=True)
class Text:
    """One row to be: `name` is unique, `kind` is topic, module, class, method or function."""

    module: str
    name: str
    kind: str
    text: str


def collect(rows: int, wanted: Sequence[str] = (), library: Path | None = None) -> list[Text]:
    """At most `rows` texts, mixed: the `wanted` names, manual topics, and docstrings from all modules in turn.

    The same Python gives the same texts in the same order. `library` is the folder of the standard
    library. Raises Stop if it has no sources.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    docstrings = list(_docstrings(library))
    if len(docstrings) < _FEWEST:
        raise Stop(
            "This Python comes without the sources of its standard library.",
            f"The demo takes its texts from them, and found {len(docstrings)} docstrings in {library}.",
            "Run it with a Python that has them (a package such as python3-stdlib, or python.org's own).",
            exit_code=Exit.FAILED,
        )
    first = [text for text in docstrings if text.name in wanted]
    short = [text for text in docstrings if len(text.text) <= _LONGEST_DOCSTRING]
    chosen = {text.name: text for text in chain(first, _topics(), _in_turn(short))}
    texts = list(chosen.values())[:rows]
    random.Random(1).shuffle(texts)  # noqa: S311 (long and short ones mixed, the same in every run)
    return texts


def _topics() -> Iterator[Text]:
    from pydoc_data.topics import topics

    for label, text in sorted(topics.items()):
        if _SHORTEST <= len(text) <= _LONGEST_TOPIC:
            yield Text("language manual", f"manual: {label}", "topic", text.strip())


def _docstrings(library: Path) -> Iterator[Text]:
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if any(_is_skipped(part) for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an old escape in somebody's source
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        module = ".".join([*parts[:-1], path.stem]).removesuffix(".__init__")
        for name, kind, text in _described(tree, module, "module"):
            if len(text) >= _SHORTEST and "\0" not in text:
                yield Text(module, name, kind, text)


def _is_skipped(part: str) -> bool:
    private = part.startswith("_") and part not in ("__init__.py", "__future__.py")
    return private or part in _SKIPPED or part.startswith("config-")


def _described(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, kind: str
) -> Iterator[tuple[str, str, str]]:
    """(qualified name, kind, docstring) of the node and of everything public in it, outside functions."""
    if text := ast.get_docstring(node):
        yield name, kind, text
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        inner = "class" if isinstance(child, ast.ClassDef) else "method" if kind == "class" else "function"
        yield from _described(child, f"{name}.{child.name}", inner)


def _in_turn(texts: Sequence[Text]) -> Iterator[Text]:
    """One of each module, then the next of each: a part of the list still knows all modules."""
    modules: dict[str, list[Text]] = defaultdict(list)
    for text in texts:
        modules[text.module].append(text)
    return (text for turn in zip_longest(*modules.values()) for text in turn if text is not None)
