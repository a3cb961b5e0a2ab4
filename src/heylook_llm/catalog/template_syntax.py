"""Whether a chat template can be read at all: Jinja with the tags that models use, or Ollama's kind. Nothing is run."""

from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes

from heylook_llm.catalog import go_template


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks assistant text for training; here its body stands as it is."""

    tags = {"generation"}  # noqa: RUF012  # declared so by Jinja

    def parse(self, parser: Any) -> list[nodes.Node]:
        """The body alone."""
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


EXTENSIONS: tuple[str | type[jinja2.ext.Extension], ...] = ("jinja2.ext.loopcontrols", GenerationTag)


def check(source: str) -> None:
    """Raises ValueError, whose message follows "the template"."""
    if len(source) > go_template.MAX_CHARACTERS:
        raise ValueError(f"is longer than {go_template.MAX_CHARACTERS} characters")
    if go_template.is_go(source):
        go_template.to_jinja(source)
        return
    try:
        jinja2.Environment(extensions=EXTENSIONS).parse(source)  # noqa: S701 (nothing is rendered)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"can't be read: {error.message} (line {error.lineno})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
