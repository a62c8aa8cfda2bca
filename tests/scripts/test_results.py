"""The page of results is the one that its records give."""

import importlib.util
import json
from pathlib import Path

from zoo import recipes

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_results.py"


def make_results():
    spec = importlib.util.spec_from_file_location("make_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_as_new_as_its_records():
    script = make_results()
    assert script.read_records()
    assert script.PAGE.read_text() == script.page(script.read_records())
    assert json.loads(recipes.RESULTS.read_text()) == script.results(script.read_records())


def test_what_differs_is_written_as_set_takes_it():
    own = {"name": "a", "phases": [{"name": "b", "schedule": {"name": "linear", "offset": 0}, "ema": None}]}
    new = {"name": "a", "phases": [{"name": "b", "schedule": {"name": "cosine", "warmup": 0}, "ema": 0.9}]}
    assert list(make_results()._differences(new, own)) == ["schedule=cosine", "ema=0.9"]
    assert list(make_results()._differences(own, own)) == []
