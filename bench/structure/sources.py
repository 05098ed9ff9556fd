"""The package as its reader meets it: modules, functions and names, read from the sources alone.

Below `paths`, which runs them, and the rules of `tests/style`, which bound what is counted here.
Nothing is imported, so a checkout of any age can be measured.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "frontdesk"

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module: its dotted name and its syntax tree."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def layer(self) -> str:
        """The folder or file right below the package, for `frontdesk` itself the package."""
        return [*self.name.split("."), self.name][1]

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All functions and methods, those in functions too."""
        return tuple(_functions_in(self.tree, module=self.name, outer=""))

    @cached_property
    def names(self) -> Counter[str]:
        """How often each name is read: by itself, as an attribute, or imported from elsewhere."""
        counted: Counter[str] = Counter()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                counted[node.id] += 1
            elif isinstance(node, ast.Attribute):
                counted[node.attr] += 1
            elif isinstance(node, ast.ImportFrom):
                counted.update(each.name for each in node.names)
        return counted


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method: where it is defined, its own name, and how many lines it has."""

    module: str
    qualname: str
    lines: int
    """From `def` to the end, without decorators and docstring."""

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.qualname.rpartition(".")[2]

    @property
    def private(self) -> bool:
        """Say whether its name says that nobody else shall use it."""
        return _is_private(self.name)


def is_dunder(name: str) -> bool:
    """Say whether Python gave this name its meaning."""
    return name.startswith("__") and name.endswith("__")


def modules_of(checkout: Path) -> tuple[Module, ...]:
    """Read the modules of a checkout's package."""
    root = checkout / "src"
    return tuple(
        module_from(path.relative_to(root), path.read_text(encoding="utf-8"))
        for path in sorted((root / PACKAGE).rglob("*.py"))
    )


def module_from(path: Path, source: str) -> Module:
    """Make a module of a path below the source folder and what stands in the file."""
    parts = path.with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), ast.parse(source), is_package)


def _functions_in(node: ast.AST, *, module: str, outer: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        inner = outer
        if isinstance(child, AnyFunction):
            yield Function(module, f"{outer}{child.name}", _lines_of(child))
        if isinstance(child, AnyFunction | ast.ClassDef):
            inner = f"{outer}{child.name}."
        yield from _functions_in(child, module=module, outer=inner)


def _lines_of(function: AnyFunction) -> int:
    docstring = 0
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


# -- functions -------------------------------------------------------------------------------------


def longer_than(limit: int, modules: Iterable[Module]) -> dict[str, int]:
    """Return the functions with more lines, and how many they have."""
    functions = (each for module in modules for each in module.functions)
    return {str(each): each.lines for each in functions if each.lines > limit}


def used_once(modules: Iterable[Module]) -> list[Function]:
    """Return the private functions that are named once, besides where they are defined.

    Counted by name in the module: of two methods of one name in two classes, each named once, both
    are in the list.
    """
    found = []
    for module in modules:
        private = [each for each in module.functions if each.private]
        defined = Counter(each.name for each in private)
        found += [each for each in private if module.names[each.name] == defined[each.name]]
    return found


def share_used_once(modules: Iterable[Module]) -> float:
    """Return how many of a hundred functions are private and used once."""
    modules = tuple(modules)
    return 100 * len(used_once(modules)) / sum(len(module.functions) for module in modules)


# -- names -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """A name that the package gives: what it names, in which module, and the words in it."""

    kind: str
    """`module`, `class`, `function`, `argument` or `field`."""
    text: str
    module: str

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the name, in small letters: `PromptQueue` and `prompt_queue` have two."""
        return tuple(word.lower() for word in _WORDS.findall(self.text))


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def names_in(module: Module) -> Iterator[Name]:
    """Return the names that a module gives, its own among them; local variables are nobody's."""
    yield Name("module", module.name.rpartition(".")[2], module.name)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            yield Name("class", node.name, module.name)
            yield from (Name("field", each, module.name) for each in _targets(node.body))
        elif isinstance(node, AnyFunction):
            if not is_dunder(node.name):
                yield Name("function", node.name, module.name)
        elif isinstance(node, ast.arg):
            yield Name("argument", node.arg, module.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield Name("field", node.attr, module.name)


def _targets(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        yield from (each.id for each in targets if isinstance(each, ast.Name))


def in_several_layers(modules: Iterable[Module]) -> dict[str, list[str]]:
    """Return the names of public classes and of modules that several layers have, with where.

    The layer below a public package (`__init__`) is no second place for what it exports.
    """
    places: dict[str, set[tuple[str, str]]] = {}
    for module in modules:
        for name in names_in(module):
            if name.kind == "class" and not name.text.startswith("_"):
                places.setdefault(name.text, set()).add((module.layer, module.name))
        if not module.is_package:
            file = f"{module.name.rpartition('.')[2]}.py"
            places.setdefault(file, set()).add((module.layer, module.name))
    return {
        name: sorted(each for _, each in found)
        for name, found in sorted(places.items())
        if len({layer for layer, _ in found}) > 1
    }


# -- imports ---------------------------------------------------------------------------------------


def imports_of(module: Module, known: Mapping[str, Module]) -> set[str]:
    """Return the modules of the package that this one imports, wherever in it that stands.

    For the types alone, or inside of a function: all the same.
    """
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{each.name}" for each in node.names}
            found |= {each if each in known else node.module for each in inner}
    return {each for each in found if each in known and each != module.name}


def import_cycles(modules: Iterable[Module]) -> list[list[str]]:
    """Return the groups of modules of which each imports, in the end, all the others."""
    known = {module.name: module for module in modules}
    graph = {name: imports_of(module, known) for name, module in known.items()}
    reached = {name: _reached(graph, name) for name in graph}
    cycles = {
        frozenset(other for other in reached[name] if name in reached[other]) for name in graph
    }
    return sorted(sorted(cycle) for cycle in cycles if cycle)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def private_names_of_others(modules: Iterable[Module]) -> list[str]:
    """Return every private name of a module that another module imports or reaches into."""
    known = {module.name: module for module in modules}
    return sorted(each for module in known.values() for each in _private_uses(module, known))


def _private_uses(module: Module, known: Mapping[str, Module]) -> Iterator[str]:
    modules_here: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                full = f"{node.module}.{each.name}"
                if full in known:
                    modules_here[each.asname or each.name] = full
                elif node.module in known and _is_private(each.name):
                    yield f"{module.name}: {full}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            place = ast.unparse(node.value)
            if (place := modules_here.get(place, place)) in known:
                yield f"{module.name}: {place}.{node.attr}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not is_dunder(name)


# -- types -----------------------------------------------------------------------------------------


def uses_of_any(modules: Iterable[Module], layer: str) -> Counter[str]:
    """Return how often each module of a layer names `Any`, its import aside."""
    return Counter(
        module.name
        for module in modules
        if module.layer == layer
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Name) and node.id == "Any")
        or (isinstance(node, ast.Attribute) and node.attr == "Any")
    )
