"""Lets the documentation site show the docstrings' `Example:` sections as code.

Google's style, as the site's reader knows it, has `Examples:` only; `Example:` would be read as prose, in
which `[0.5, 1.0]` is a link.
"""

from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Reads `Example:` as `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Renames the section in an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
