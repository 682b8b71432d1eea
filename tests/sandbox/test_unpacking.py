"""What comes out of a sandbox was written by others, the parcel itself included."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from onward.sandbox.contract import SandboxFailed
from onward.sandbox.unpacking import unpack


def parcel(*members: tuple[str, str, str]) -> io.BytesIO:
    """A parcel of (kind, name, text or target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for kind, name, said in members:
            member = tarfile.TarInfo(name)
            member.type = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
                           "folder": tarfile.DIRTYPE, "device": tarfile.CHRTYPE}[kind]  # fmt: skip
            member.mode = 0o4777
            member.linkname = said if kind in ("link", "hard") else ""
            member.size = len(said) if kind == "file" else 0
            archive.addfile(member, io.BytesIO(said.encode()))
    file.seek(0)
    return file


@pytest.mark.parametrize(
    "members",
    [
        [("file", "../out", "x")],
        [("file", "/tmp/onward-escaped", "x")],
        [("file", "a/../../out", "x")],
        [("link", "a", "/etc"), ("file", "a/passwd", "x")],
        [("link", "a", ".."), ("file", "a/out", "x")],
        [("hard", "a", "/etc/passwd")],
        [("hard", "a", "../out")],
        [("device", "a", "")],
        [("folder", "d", ""), ("link", "d/l", "../..")],
        [("folder", "d", ""), ("link", "d/s", "../z"), ("folder", "z", ""), ("link", "l", "d/s/../../x")],
        [("folder", "p/q", ""), ("link", "p/r", "."), ("link", "p/r/q/l", "../../../x")],
        [("folder", "d/e/f", ""), ("link", "a", "d/e/f"), ("link", "a/l", "../../../../x")],
        [("link", ".", "/etc")],
        [("file", "a\0b", "x")],
    ],
)
def test_nothing_leads_out(tmp_path: Path, members: list[tuple[str, str, str]]) -> None:
    target = tmp_path / "in" / "target"
    target.parent.mkdir()
    taken = unpack(parcel(*members), target, 1000)
    assert list(tmp_path.iterdir()) == [target.parent] and list(target.parent.iterdir()) in ([], [target])
    for path in target.rglob("*"):
        assert path.resolve().is_relative_to(target.resolve())
        assert not path.stat().st_mode & 0o7000 if not path.is_symlink() else True
    assert taken.left_out or not any(path.is_symlink() for path in target.rglob("*"))
    assert not Path("/tmp/onward-escaped").exists()


def test_what_is_no_parcel(tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed, match="no parcel"):
        unpack(io.BytesIO(b"nonsense" * 1000), tmp_path / "a", 1000)
    with pytest.raises(SandboxFailed, match="more came out"):
        unpack(parcel(("file", "a", "x" * 2000)), tmp_path / "b", 1000)
    twice = parcel(("file", "a", "x"), ("file", "a", "y"), ("file", "a/b", "z"), ("link", "a", "b"))
    assert set(unpack(twice, tmp_path / "c", 1000).left_out) == {"a", "a/b"}
    assert (tmp_path / "c" / "a").read_text() == "x"
