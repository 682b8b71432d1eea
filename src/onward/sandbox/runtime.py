"""A Python for the inside: this interpreter, the few modules that `inside` needs and the libraries they need.

Started through its own dynamic loader, it runs in any image of this machine's architecture, also in one that has no
Python, or another libc. About 15 MB, made once per place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from onward.sandbox.contract import SandboxFailed

__all__ = ["provide", "start"]

# Imports what is needed, then says which files that took: modules, then everything that is mapped.
_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
import onward.sandbox.inside, encodings.idna, encodings.ascii, encodings.latin_1, encodings.utf_8
for module in list(sys.modules.values()):
    for name in ("__file__", "__cached__"):
        sys.stdout.write("module\\t%s\\n" % (getattr(module, name, None) or ""))
for line in open("/proc/self/maps"):
    sys.stdout.write("mapped\\t%s\\n" % "".join(line.split(None, 5)[5:]).strip())
"""
_making = threading.Lock()
_START = "import sys; sys.path.insert(0, '{lib}/lib'); from onward.sandbox.inside import main; main()"


def start(folder: str, lib: str) -> list[str]:
    """The command that starts `inside`, where the runtime is `folder` and what is ours `lib`."""
    return [f"{folder}/so/loader", "--library-path", f"{folder}/so", f"{folder}/bin/python3", "-I", "-S", "-c",
            _START.format(lib=lib)]  # fmt: skip


def provide(own: Path) -> Path:
    """The folder with the runtime, made if it is not there; in the sandbox's own folder, so no half of it is left."""
    with _making:
        return _provide(own.parent / "shared", own)


def _provide(root: Path, own: Path) -> Path:
    python = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    stamp = f"{python}\0{python.stat().st_mtime_ns}\0{sys.version}\0{Path(__file__).read_text()}"
    place = root / f"python-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    if place.is_dir():
        return place
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    making = own / "python"
    making.mkdir()
    try:
        _fill(making, python, own / "lib")
        making.chmod(0o755)
        try:
            making.rename(place)
        except OSError:
            if not place.is_dir():  # else somebody else made it meanwhile
                raise
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxFailed(f"no Python could be made for the sandbox: {error}") from None
    return place


def _fill(place: Path, python: Path, lib: Path) -> None:
    asked = subprocess.run(
        [python, "-I", "-S", "-c", _ASK, lib],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=120,
        env={},
    )
    prefix = Path(sys.base_prefix).resolve()
    (place / "so").mkdir()
    for line in sorted(set(os.fsdecode(asked.stdout).splitlines())):
        kind, _, name = line.partition("\t")
        path = Path(name)
        if not path.is_absolute() or not path.is_file():
            continue
        if kind == "module" and prefix in path.resolve().parents:
            target = place / path.resolve().relative_to(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        elif kind == "mapped" and path.name.startswith(("ld-", "ld.")):
            shutil.copy2(path, place / "so" / "loader")
        elif kind == "mapped" and ".so" in path.name and "lib-dynload" not in path.parts:
            for name in _names(path):
                shutil.copy2(path, place / "so" / name)
    (place / "bin").mkdir()
    shutil.copy2(python, place / "bin" / "python3")
    for library in (place / "so").iterdir():
        library.chmod(0o755)


def _names(library: Path) -> list[str]:
    """What a library is called: it is asked for by a link's name, and known as mapped by its own."""
    start = library.name.split(".so")[0] + ".so"
    beside = [path for path in library.parent.iterdir() if path.name.startswith(start)]
    return [path.name for path in beside if path.resolve() == library.resolve()]
