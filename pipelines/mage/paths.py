"""Maps the paths of Mage's container in the code of a project, when it is compiled.

A text is mapped as it stands. A path that is put together of parts, by an f-string, `+`, `/`, `os.path.join`
or the like, is mapped when all of it is known: its first part alone does not say where it leads.
"""

from __future__ import annotations

import ast

from pipelines.mage.additions import with_import
from pipelines.mage.places import SOURCE_FOLDER, Places

_LOCATED = "__millrace_located__"
_OPERATORS = (ast.Add, ast.Div, ast.Mod)
_FUNCTIONS = frozenset(("Path", "PosixPath", "PurePath", "PurePosixPath", "join"))
_METHODS = frozenset(("Path", "format", "join", "joinpath"))


def with_located_paths(tree: ast.Module, places: Places) -> ast.Module:
    """Return the tree with every path below `/home/src` as it is here."""
    mapper = _Mapper(places)
    changed = mapper.visit(tree)
    assert isinstance(changed, ast.Module)
    if not mapper.needs_helper:
        return changed
    return with_import(changed, "pipelines.mage.repository", "located", _LOCATED)


class _Mapper(ast.NodeTransformer):
    def __init__(self, places: Places) -> None:
        self._places = places
        self.needs_helper = False

    def visit(self, node: ast.AST) -> ast.AST:
        if not (_is_put_together(node) and _names_folder(node)):
            changed: ast.AST = super().visit(node)
            return changed
        assert isinstance(node, ast.expr)
        self.needs_helper = True
        whole = ast.Call(ast.Name(_LOCATED, ast.Load()), [self._with_parts_as_written(node)], [])
        return ast.copy_location(whole, node)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and SOURCE_FOLDER in node.value:
            return ast.copy_location(ast.Constant(self._places.located(node.value), node.kind), node)
        return node

    def _with_parts_as_written(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Constant():
                return node
            case ast.JoinedStr():
                node.values = [*map(self._with_parts_as_written, node.values)]
            case ast.BinOp() if _is_put_together(node):
                node.left, node.right = map(self._with_parts_as_written, (node.left, node.right))
            case ast.Call() if _is_put_together(node):
                if isinstance(node.func, ast.Attribute):
                    node.func.value = self._with_parts_as_written(node.func.value)
                node.args = [*map(self._with_parts_as_written, node.args)]
                for keyword in node.keywords:
                    self.generic_visit(keyword)
            case _:
                changed = self.visit(node)
                assert isinstance(changed, ast.expr)
                return changed
        return node


def _is_put_together(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr():
            return True
        case ast.BinOp():
            return isinstance(node.op, _OPERATORS)
        case ast.Call(func=ast.Name(id=name)):
            return name in _FUNCTIONS
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _METHODS
    return False


def _names_folder(node: ast.AST) -> bool:
    """Tell whether one of the parts that a path is put together of, as written, names `/home/src`."""
    match node:
        case ast.Constant():
            return isinstance(node.value, str) and SOURCE_FOLDER in node.value
        case ast.JoinedStr():
            return any(map(_names_folder, node.values))
        case ast.BinOp() if _is_put_together(node):
            return _names_folder(node.left) or _names_folder(node.right)
        case ast.Call() if _is_put_together(node):
            owner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            return any(map(_names_folder, (*owner, *node.args)))
    return False
