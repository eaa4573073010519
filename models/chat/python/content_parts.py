"""Finds out whether a chat template takes a message's content as a list of parts, by the way it uses it."""

from jinja2 import nodes

# Filters whose result is a list if their input is one.
LISTS = {"list", "reverse", "sort", "selectattr", "rejectattr"}


def reads_content_parts(template):
    """
    True where the parsed template loops over a message's `content`, selects parts of it, or takes the fields of its
    first part. Content is followed through `set`, macro arguments, conditions and defaults. Testing `content is string`
    says nothing: many templates do it only to leave everything else out.
    """
    names = _names_of_content(template)
    loops = (loop.iter for loop in template.find_all(nodes.For))
    filters = (found.node for found in template.find_all(nodes.Filter) if _selects_parts(found))
    fields = (
        field.node.node
        for field in template.find_all((nodes.Getattr, nodes.Getitem))
        if _field(field) in ("type", "text") and isinstance(field.node, nodes.Getitem) and _is_index(field.node.arg)
    )
    return any(_is_content(value, names) for values in (loops, filters, fields) for value in values)


def _names_of_content(template):
    """Variables that hold a message's content somewhere in the template."""
    macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}
    names = set()
    while True:
        before = len(names)
        for assigned in template.find_all(nodes.Assign):
            if isinstance(assigned.target, nodes.Name) and _is_content(assigned.node, names):
                names.add(assigned.target.name)
        for call in template.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and (macro := macros.get(call.node.name)):
                given = [(parameter.name, value) for parameter, value in zip(macro.args, call.args)]
                given += [(option.key, option.value) for option in call.kwargs]
                names.update(name for name, value in given if _is_content(value, names))
        if len(names) == before:
            return names


def _is_content(value, names):
    match value:
        case nodes.Name():
            return value.name in names
        case nodes.Getattr() | nodes.Getitem():
            return _field(value) == "content"
        case nodes.Call(node=nodes.Getattr(attr="get"), args=[nodes.Const(value="content"), *_]):
            return True
        case nodes.CondExpr():
            return any(_is_content(side, names) for side in (value.expr1, value.expr2))
        case nodes.Or() | nodes.And():
            return any(_is_content(side, names) for side in (value.left, value.right))
        case nodes.Filter():
            return value.name in LISTS | {"default", "d"} and _is_content(value.node, names)
    return False


def _field(node):
    """The name in `x.name` and `x["name"]`."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) else None


def _selects_parts(found):
    """Whether a filter only makes sense of a list of objects."""
    takes_attribute = any(option.key == "attribute" for option in found.kwargs)
    return found.name in ("selectattr", "rejectattr") or (found.name == "map" and takes_attribute)


def _is_index(node):
    return isinstance(node, nodes.Const) and isinstance(node.value, int)
