"""Compiled templates of one table: its text, and the truth of its `when`. Faults never carry a row's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jinja2 import Template, TemplateSyntaxError, UndefinedError, meta, nodes

from consumer.content.sandbox import MAX_TEXT, Sandbox, TooLong
from consumer.errors import Exit, Reject, Stop

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0", ""})
_LOADING = (nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)
_RESULT = "result_of_when"  # what the value of a `when` expression is assigned to


class TextTemplate:
    """A template that renders to text. `columns` are all the names it can read; it is shown no others."""

    def __init__(self, sandbox: Sandbox, source: str, *, table: str, setting: str) -> None:
        self._table, self._setting = table, setting
        try:
            tree = sandbox.parse_text(source)
            for node in tree.find_all(_LOADING):
                raise TemplateSyntaxError(f"there is no other template to {type(node).__name__.lower()}", node.lineno)
            self.columns = frozenset(meta.find_undeclared_variables(tree))
            self._expression = _only_expression(tree)
            self._template = self._compile(sandbox, tree)
        except TemplateSyntaxError as error:
            raise Stop(
                f"The {setting} template of table {table} cannot be used.",
                f"Line {error.lineno}: {_plain(error.message or 'syntax error')}.",
                f"Correct {setting} of this table in the settings.",
                exit_code=Exit.USAGE,
            ) from None

    def _compile(self, sandbox: Sandbox, tree: nodes.Template) -> Template:
        return sandbox.from_string(tree)

    def render(self, row: Mapping[str, object]) -> str:
        """The text of a row. Raises Reject: missing_column, template_error, too_long or nul_character."""
        with self._guarded(row):
            text = self._render(row)
        if "\0" in text:
            raise self._fault("nul_character", "made text with a NUL character, which Postgres cannot store")
        return text

    def _render(self, row: Mapping[str, object]) -> str:
        parts, size = [], 0
        for part in self._template.root_render_func(self._template.new_context(self._visible(row))):
            parts.append(part)
            size += len(part)
            if size > MAX_TEXT:
                raise TooLong
        return "".join(parts)

    def _visible(self, row: Mapping[str, object]) -> dict[str, object]:
        return {name: row[name] for name in self.columns if name in row}

    @contextmanager
    def _guarded(self, row: Mapping[str, object]) -> Iterator[None]:
        """Turn what a template can do wrong on this row into a Reject, by class and line: messages hold values."""
        try:
            yield
        except Reject:
            raise
        except (TooLong, MemoryError):
            raise self._fault("too_long", f"makes more than {MAX_TEXT} characters") from None
        except Exception as error:
            missing = sorted(self.columns - row.keys())
            if isinstance(error, UndefinedError) and missing:
                raise missing_columns(missing, self._table, self._setting) from None
            why = f"failed with {type(error).__name__} in line {self._line(error)}"
            raise self._fault("template_error", why) from None

    def _fault(self, error_type: str, why: str) -> Reject:
        what = f"The {self._setting} template of table {self._table} {why}."
        return Reject(what, stage="render", error_type=error_type)

    def _line(self, error: Exception) -> int:
        """The template's line that raised, found through the generated code's frames."""
        line, frame = 1, error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_globals.get("__jinja_template__") is self._template:
                line = self._template.get_corresponding_lineno(frame.tb_lineno)
            frame = frame.tb_next
        return line


class Condition(TextTemplate):
    """A template that is true or false of a row.

    `{{ expression }}` alone is judged by the expression's value, anything else by the text it renders. A text is one
    of the usual words for true and false (yes, no, on, off, …); any other text is refused instead of guessed at.
    """

    def _compile(self, sandbox: Sandbox, tree: nodes.Template) -> Template:
        if self._expression is None:
            return sandbox.from_string(tree)
        assign = nodes.Assign(nodes.Name(_RESULT, "store"), self._expression, lineno=self._expression.lineno)
        alone = nodes.Template([assign], lineno=1)
        alone.set_environment(sandbox)
        return sandbox.from_string(alone)

    def holds(self, row: Mapping[str, object]) -> bool:
        """Whether the row belongs into the index; NULL does not. Raises Reject as `render` does, and not_boolean."""
        with self._guarded(row):
            value = self._render(row).strip() if self._expression is None else self._value(row)
            return bool(value) if not isinstance(value, str) else self._truth(value)

    def _value(self, row: Mapping[str, object]) -> object:
        context = self._template.new_context(self._visible(row))
        for _ in self._template.root_render_func(context):
            pass
        return context.vars[_RESULT]

    def _truth(self, word: str) -> bool:
        folded = word.strip().lower()
        if folded in _TRUE or folded in _FALSE:
            return folded in _TRUE
        raise self._fault("not_boolean", "gave text that is neither true nor false")


def _plain(message: str) -> str:
    """Without Jinja's word "token": what stands behind it would be masked as a secret when it is printed."""
    return message.replace("expected token ", "expected ").rstrip(".")


def missing_columns(missing: list[str], table: str, setting: str) -> Reject:
    """The event does not carry columns that the settings name."""
    names = ", ".join(missing)
    what = f"Table {table} has no column {names}, which {setting} names; correct the settings or the connector."
    return Reject(what, stage="render", error_type="missing_column")


def _only_expression(tree: nodes.Template) -> nodes.Expr | None:
    """The expression of a template that is nothing but `{{ expression }}`, or None."""
    parts: list[nodes.Node] = []
    for node in tree.body:
        parts.extend(node.nodes if isinstance(node, nodes.Output) else [node])
    parts = [part for part in parts if not (isinstance(part, nodes.TemplateData) and not part.data.strip())]
    alone = parts[0] if len(parts) == 1 else None
    return alone if isinstance(alone, nodes.Expr) and not isinstance(alone, nodes.TemplateData) else None
