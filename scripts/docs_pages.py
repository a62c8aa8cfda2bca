"""Shows the pages that lie at the top of the repository on the documentation site as well.

They stand there because hosting sites look for them there. Links between them and the pages in `docs/` are
written as in the repository, and changed here to what they are on the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = ("EXTENDING.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: Any, **kwargs: Any) -> Files:
    """Adds the pages, in small letters as the others."""
    root = Path(config.config_file_path).parent
    for name in PAGES:
        files.append(File.generated(config, name.lower(), content=(root / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Changes links to and from these pages."""
    here = page.file.src_uri  # such as `tutorials/own_method.md`, which is in `docs/`
    upper = here.upper().replace(".MD", ".md")
    folder = "" if upper in PAGES else posixpath.join("docs", posixpath.dirname(here))

    def target(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[1]))
        if path not in PAGES and folder:
            return link[0]
        on_site = path.lower() if path in PAGES else path.removeprefix("docs/")
        return f"]({posixpath.relpath(on_site, posixpath.dirname(here) or '.')}"

    return _LINK.sub(target, markdown)
