"""How messages of errors are written, read from the syntax trees of all modules."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = {"Keras", "Larq", "Python", "Pillow", "Optuna"}


def test_messages_of_errors_have_no_full_stop_and_begin_with_a_capital_for_names_alone():
    texts = {}
    for path in sorted(path for folder in ("bnn_tf", "zoo") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            is_error = isinstance(node, ast.Call) and re.search(r"(Error|Usage)$", ast.unparse(node.func))
            text = node.args[0] if is_error and node.args else None
            if isinstance(text, ast.JoinedStr | ast.Constant):
                texts[f"{path.relative_to(ROOT)}:{node.lineno}"] = ast.unparse(text).lstrip("f").strip("'\"")
    assert len(texts) > 300
    stopped = [place for place, text in texts.items() if text.endswith(".") and not text.endswith(" .")]
    assert not stopped
    words = {place: re.match(r"[A-Z][a-z]*(?=[ ,:])", text) for place, text in texts.items()}
    assert not {place: word[0] for place, word in words.items() if word and word[0] not in NAMES}
