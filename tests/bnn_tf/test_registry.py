"""Names become objects: registered ones, those of installed packages, and `package.module:Name`."""

import importlib.metadata
import sys
import types

import pytest

from bnn_tf import registry
from bnn_tf.errors import UntrustedModuleError, UsageError, UserError
from bnn_tf.registry import Registry


@pytest.fixture
def shapes():
    shapes = Registry("shape")

    @shapes.register("square")
    class Square: ...

    return shapes


@pytest.fixture
def module(tmp_path, monkeypatch, shapes):
    """An importable module that is not installed."""
    (tmp_path / "someones_module.py").write_text("class Circle: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with shapes.temporary():
        yield "someones_module"
    sys.modules.pop("someones_module", None)


def test_registered_names(shapes):
    assert shapes.names() == ["square"]
    assert shapes.get("square").__name__ == "Square"
    assert "square" in shapes
    assert "circle" not in shapes


def test_an_unknown_name_names_the_nearest(shapes):
    with pytest.raises(UsageError, match="no shape called 'sqare'; did you mean 'square'"):
        shapes.get("sqare")


def test_a_name_is_given_once(shapes):
    with pytest.raises(ValueError, match="already"):

        @shapes.register("square")
        class Other: ...

    with pytest.raises(ValueError, match="cannot be the name"):
        shapes.register("a b")


def test_a_path_is_imported_only_when_it_is_trusted(shapes, module):
    name = f"{module}:Circle"
    with pytest.raises(UntrustedModuleError, match=r"not installed; bnn_tf\.registry\.trust") as caught:
        shapes.get(name)
    assert caught.value.module == module
    assert module not in sys.modules
    registry.trust(name)
    assert shapes.get(name).__name__ == "Circle"


def test_a_trusted_module_may_be_named_alone(shapes, module):
    registry.trust(module)
    assert registry.import_module(module).Circle is shapes.get(f"{module}:Circle")
    with pytest.raises(UntrustedModuleError, match="the module 'not_there' is not installed"):
        registry.import_module("not_there")


def test_temporary(shapes, module):
    square = shapes.get("square")
    with shapes.temporary({"square": None, "circle": dict}):
        assert shapes.names() == ["circle"]
        shapes.register("cone")(list)
        registry.trust(module)
    assert (shapes.names(), shapes.get("square")) == (["square"], square)
    with pytest.raises(UntrustedModuleError):
        registry.import_module(module)


def test_errors_of_a_named_module_are_one_line(shapes, module, tmp_path):
    registry.trust(f"{module}:Circle")
    with pytest.raises(UserError, match="has no 'Cone'"):
        shapes.get(f"{module}:Cone")
    registry.trust("not_there:Circle")
    with pytest.raises(UserError, match="does not load: ModuleNotFoundError"):
        shapes.get("not_there:Circle")


def test_installed_packages_need_no_trust(shapes):
    assert shapes.get("numpy:ndarray").__name__ == "ndarray"


@pytest.fixture
def makers(monkeypatch):
    """Functions by name, in a module that is taken for an installed one: one is registered, one is not."""
    makers = Registry("maker", functions=True)
    theirs = types.ModuleType("their_makers")
    theirs.cube, theirs.other = (lambda: "cube"), (lambda: "other")
    makers.register("cube")(theirs.cube)
    monkeypatch.setitem(sys.modules, "their_makers", theirs)
    monkeypatch.setattr(registry, "_is_installed", lambda module: True)
    with makers.temporary():
        yield makers


def test_a_function_is_registered_or_its_module_trusted(makers):
    assert makers.get("their_makers:cube")() == "cube"
    with pytest.raises(UntrustedModuleError, match="'their_makers', which does not register it as a maker; "):
        makers.get("their_makers:other")
    registry.trust("their_makers:other")
    assert makers.get("their_makers:other")() == "other"


def test_a_function_of_an_entry_point_is_registered(makers, monkeypatch):
    point = importlib.metadata.EntryPoint("other", "their_makers:other", "makers")
    monkeypatch.setattr(makers, "_entry_points", lambda: {"other": point})
    assert makers.get("their_makers:other")() == "other"


def test_programs_are_not_imported():
    with pytest.raises(UntrustedModuleError, match=r"'pip\.__main__', which is a program"):
        Registry("shape").get("pip.__main__:Circle")
    assert "pip.__main__" not in sys.modules
