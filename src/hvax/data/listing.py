"""A table's schema as text of at most 80 columns."""

from collections.abc import Sequence

from hvax.data.column import Column

_WIDTH, _NAME = 80, 24


def listing(columns: Sequence[Column], num_rows: int) -> str:
    """One line for each column: its name, its kind, its values, and how many are missing."""
    modeled = sum(column.is_modeled for column in columns)
    names = [_cut(column.name, _NAME) for column in columns]
    name_width = max(len("name"), *map(len, names))
    kind_width = max(len("kind"), *(len(column.kind) for column in columns))
    missing_width = max(len("missing"), *(len(str(column.missing)) for column in columns))
    rest = _WIDTH - name_width - kind_width - missing_width - 6
    lines = [f"Table: {num_rows} rows, {len(columns)} columns, {modeled} of them modeled"]
    cells = [("name", "kind", "values", "missing")]
    cells += [
        (name, column.kind, _cut(_values(column), rest), str(column.missing))
        for name, column in zip(names, columns, strict=True)
    ]
    value_width = max(len(each[2]) for each in cells)
    for name, kind, values, missing in cells:
        lines.append(
            f"{name:{name_width}}  {kind:{kind_width}}  {values:{value_width}}  "
            f"{missing:>{missing_width}}"
        )
    return "\n".join(lines)


def _values(column: Column) -> str:
    if column.note:
        return f"({column.note})"
    classes = column.kind in ("binary", "category", "label") or column.content != "number"
    if classes and column.values:
        number = f"{len(column.values)}: " if len(column.values) > 2 else ""
        return number + ", ".join(map(str, column.values))
    if column.minimum is not None and column.maximum is not None:
        return f"{column.minimum:.6g} to {column.maximum:.6g}"
    return column.content


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 3]}..."
