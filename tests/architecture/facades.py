"""The facades of the packages: modules that consist of names alone."""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from tests.architecture.sources import Source

EFFECTS = {"actors.installation"}
"""The modules that a facade imports because they check something, and not for a name."""


def facade_problems(facade: Source) -> list[str]:
    """Return the parts of a facade besides a docstring, imports and `__all__`, and the names missing in `__all__`.

    Type checkers read the imports of a facade that loads its modules at the first use of a name. The facade must then
    load the same modules.
    """
    body, homes = _with_later_imports(facade.tree.body)
    problems = [
        f"{facade.path}:{node.lineno} a facade holds names only"
        for node in body[1:]
        if not _imports_loader(node)
        if not (isinstance(node, ast.ImportFrom) or _is_all(node) or _is_effect(node))
    ]
    if ast.get_docstring(facade.tree) is None:
        problems.append(f"{facade.path} has no docstring")
    if not any(map(_is_all, body)):
        problems.append(f"{facade.path} has no __all__")
    listed = _listed(body)
    imported = [
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        if not _imports_loader(node)
        for alias in node.names
    ]
    problems += [f"{facade.path} imports {name} twice" for name in _repeated(imported)]
    problems += [f"{facade.path} lists {name} twice" for name in _repeated(listed)]
    problems += [
        f"{facade.path} imports {name} but does not list it in __all__"
        for name in imported
        if name not in listed
    ]
    problems += [
        f"{facade.path} lists {name} but does not import it"
        for name in listed
        if name not in imported
    ]
    later = {
        str(node.module)
        for branch in facade.tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
    }
    problems += [
        f"{facade.path} imports {module} for type checkers or at the first use, not for both"
        for module in sorted(later ^ homes)
    ]
    return problems


def _with_later_imports(body: Sequence[ast.stmt]) -> tuple[list[ast.stmt], set[str]]:
    """Return the statements with those under `if TYPE_CHECKING`, and the modules that `load_on_use` gets."""
    flat: list[ast.stmt] = []
    homes: set[str] = set()
    for node in body:
        match node:
            case ast.If(
                test=ast.Name(id="TYPE_CHECKING"),
                body=imports,
                orelse=[
                    ast.Assign(
                        targets=[ast.Name(id="__getattr__")],
                        value=ast.Call(func=ast.Name(id="load_on_use"), args=[_, *names]),
                    )
                ],
            ):
                flat += imports
                homes.update(ast.literal_eval(each) for each in names)
            case _:
                flat.append(node)
    return flat, homes


def _imports_loader(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module in {"typing", "actors.lazy"}


def _is_all(node: ast.stmt) -> bool:
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List()):
            return True
    return False


def _is_effect(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import) and {alias.name for alias in node.names} <= EFFECTS


def _listed(body: Sequence[ast.stmt]) -> list[str]:
    return [
        name
        for node in body
        if isinstance(node, ast.Assign) and _is_all(node)
        for name in ast.literal_eval(node.value)
    ]


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def exported_twice(facades: Mapping[str, ModuleType]) -> list[str]:
    """Classes and functions that can be imported from more than one facade, or by two names."""
    places: dict[int, list[str]] = {}
    for name, value in _exports(facades):
        if _has_prose(value):
            places.setdefault(id(value), []).append(name)
    return [
        "one thing is exported as " + " and as ".join(names)
        for names in places.values()
        if len(names) > 1
    ]


def undocumented(facades: Mapping[str, ModuleType]) -> list[str]:
    """Exported classes and functions without a docstring, and their modules without one."""
    problems = []
    for name, value in _exports(facades):
        if _has_prose(value):
            if not _own_docstring(value):
                problems.append(f"{name} has no docstring")
            module = sys.modules[value.__module__]
            if not module.__doc__:
                problems.append(f"{module.__name__}, which defines {name}, has no docstring")
    return problems


def _exports(facades: Mapping[str, ModuleType]) -> Iterator[tuple[str, object]]:
    for facade_name, facade in facades.items():
        for name in facade.__all__:
            yield f"{facade_name}.{name}", getattr(facade, name)


def _has_prose(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def _own_docstring(value: object) -> str | None:
    # A class whose docstring is inherited is documented as something else.
    return vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
