"""What HTML pages have in common: they are one file, and a browser loads nothing else for them."""

from __future__ import annotations

from html import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for a page: its own style. Further directives follow behind '; '."""


def html_page(title: str, style: str, body: str, *, policy: str = POLICY, head: str = "") -> str:
    """Return an HTML page that needs no network.

    title: text. style: CSS. body: what stands between <body> and </body>, with a newline at the end. policy: its
    Content-Security-Policy. head: further lines of <head>, with a newline at the end.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{head}<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""
