"""The report's markdown as HTML; HTML within it stays text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape


def to_html(text: str) -> Markup:
    """Tables scroll in boxes of their own and are named by the heading above them."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.disable(["link", "image", "autolink"])
    parser.add_render_rule("table_open", _open)
    parser.add_render_rule("table_close", _close)
    parser.add_render_rule("heading_open", _heading)
    return Markup(parser.render(text))


def _open(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: Mapping[str, Any], env: object
) -> str:
    above = [i for i in range(at) if tokens[i].type == "heading_open"]
    name = escape(tokens[above[-1] + 1].content if above else "Table")
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table>\n'


def _close(
    _: RendererHTML, tokens: Sequence[Token], at: int, options: Mapping[str, Any], env: object
) -> str:
    return "</table></div>\n"


def _heading(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    at: int,
    options: Mapping[str, Any],
    env: object,
) -> str:
    name = "".join(c if c.isalnum() else "-" for c in tokens[at + 1].content.casefold())
    return f'<{tokens[at].tag} id="{name.strip("-")}">'
