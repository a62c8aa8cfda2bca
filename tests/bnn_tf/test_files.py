"""Files are written whole, synced in the right order, or not at all."""

import os
import subprocess
import sys

import pytest

from bnn_tf import files
from bnn_tf.errors import UserError


@pytest.fixture
def calls(monkeypatch):
    """The order of syncs and renames, with the names that are synced."""
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda d: (order.append(("fsync", os.readlink(f"/proc/self/fd/{d}"))), fsync(d))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(("replace", str(b))), replace(a, b)))
    return order


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, calls):
    files.write_text(tmp_path / "a.json", "1")
    kinds = [(kind, "a.json" in name) for kind, name in calls]
    assert kinds == [("fsync", True), ("replace", True), ("fsync", False)]
    assert calls[2] == ("fsync", str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failing_body_leaves_the_old_file(tmp_path):
    target = tmp_path / "a"
    files.write_bytes(target, b"old")

    def write_half():
        with files.replacing(target) as temporary:
            temporary.write_bytes(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    target = tmp_path / "missing" / "a.json"
    with pytest.raises(UserError, match=r"cannot write .*missing/a\.json: No such file") as error:
        files.write_text(target, "1")
    assert files.TEMPORARY not in str(error.value)


def test_pipes_and_devices_are_not_replaced(tmp_path):
    """Root may rename over `/dev/full`, which is an ordinary file from then on."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: it is a pipe or a device"):
        files.write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / f".a.json.123{files.TEMPORARY}").write_text("half")
    (tmp_path / "a.json").write_text("whole")
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_checksums_tell_contents_apart(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        files.checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_second_process_does_not_get_the_lock(tmp_path):
    lock = tmp_path / "lock"
    program = f"from bnn_tf import files\nwith files.locked({str(lock)!r}, 'it is trained'): print('got it')"
    run = [sys.executable, "-c", program]
    with files.locked(lock, "busy"):
        second = subprocess.run(run, capture_output=True, text=True, check=False)
    assert second.returncode
    assert "it is trained" in second.stderr
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "got it\n"


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked"), files.locked(tmp_path / "lock", "busy"):
        pass


def test_an_empty_folder_is_made_and_an_occupied_one_refused(tmp_path):
    folder = files.empty_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    (folder / "x").write_text("")
    with pytest.raises(UserError, match="is not empty; name another one"):
        files.empty_folder(folder, "name another one")
    with pytest.raises(UserError, match="is a file"):
        files.empty_folder(folder / "x")
    files.require_empty(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b") == files.make_folder(tmp_path / "a" / "b")
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "a", new=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder .*/file/below: Not a directory"):
        files.make_folder(tmp_path / "file" / "below")
