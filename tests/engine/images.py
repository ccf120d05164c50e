"""Images made on this machine: no registry is asked. Built once, kept where later runs find them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

CACHE: Final = Path("/var/tmp/swarmd-test-images-2")
BUSYBOX: Final = Path("/bin/busybox")
REDIS_PACKAGES: Final = (
    "redis-tools",
    "redis-server",
    "libjemalloc2",
    "liblua5.1-0",
    "liblzf1",
    "lua-cjson",
    "lua-bitop",
    "libatomic1",
)
REDIS_TAGS: Final = ("latest", "3.0.5", "3.0.6", "3.0.7")


class NoImage(Exception):
    """It cannot be made here; the message says what is missing."""


def busybox_image() -> Path:
    """An archive for `docker load`: `busybox:latest`, 2 MB."""
    return _cached("busybox", _make_busybox)


def redis_image() -> Path:
    """An archive for `docker load`: `redis` with a few tags, each an image of its own on one layer, 23 MB."""
    return _cached("redis", _make_redis)


def _cached(name: str, make: Callable[[Path, Path], None]) -> Path:
    """The archive, made in a temporary directory and moved into place whole."""
    archive = CACHE / f"{name}.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            unfinished = Path(scratch) / "image.tar"
            make(Path(scratch), unfinished)
            unfinished.rename(archive)
    return archive


def _make_busybox(scratch: Path, archive: Path) -> None:
    root = _busybox_root(scratch / "root")
    _write_archive(root, archive, {"busybox:latest": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}})


def _make_redis(scratch: Path, archive: Path) -> None:
    root = _busybox_root(scratch / "root")
    unpacked = scratch / "unpacked"
    _unpack(REDIS_PACKAGES, scratch, unpacked)
    (root / "usr/bin").mkdir(parents=True)
    for program in ("redis-check-rdb", "redis-cli"):
        shutil.copy(unpacked / "usr/bin" / program, root / "usr/bin" / program)
        _copy_libraries(unpacked / "usr/bin" / program, unpacked, root)
    (root / "usr/bin/redis-server").symlink_to("redis-check-rdb")  # one program, which looks at its name
    settings = {
        "Cmd": ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""],
        "ExposedPorts": {"6379/tcp": {}},
    }
    images = {f"redis:{tag}": {"Env": ["PATH=/usr/bin:/bin", f"REDIS_VERSION={tag}"], **settings} for tag in REDIS_TAGS}
    _write_archive(root, archive, images)


def _busybox_root(root: Path) -> Path:
    if not BUSYBOX.exists():
        raise NoImage(f"{BUSYBOX} is missing: install busybox-static")
    for name in ("bin", "etc", "tmp", "root", "www"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in _out(str(BUSYBOX), "--list").split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    return root


def _unpack(packages: tuple[str, ...], scratch: Path, into: Path) -> None:
    downloads = scratch / "packages"
    downloads.mkdir()
    downloads.chmod(0o777)  # apt downloads as a user of its own
    scratch.chmod(0o755)
    done = subprocess.run(
        ["apt-get", "download", "-q", *packages], cwd=downloads, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoImage(f"apt-get download {' '.join(packages)}: {done.stderr.strip()}")
    for package in downloads.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True)


def _copy_libraries(program: Path, unpacked: Path, root: Path) -> None:
    """What `ldd` says the program needs, from the packages or from this machine, under its path of this machine."""
    folders = {str(path.parent) for path in unpacked.rglob("*.so*")}
    listing = subprocess.run(
        ["ldd", str(program)],
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(folders))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for text in re.findall(r"(/\S+) \(0x", listing):
        library = Path(text)
        inside = library.relative_to(unpacked) if library.is_relative_to(unpacked) else library.relative_to("/")
        target = root / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.resolve(), target)


def _write_archive(root: Path, archive: Path, images: dict[str, dict[str, object]]) -> None:
    """One layer, and an image configuration a name, in the form that `docker load` reads."""
    scratch = archive.parent / "archive"
    scratch.mkdir()
    layer = scratch / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add(root, arcname=".", filter=_owned_by_root)
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    manifest = []
    for name, config in images.items():
        image = {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        text = json.dumps(image).encode()
        file = f"{hashlib.sha256(text).hexdigest()}.json"
        (scratch / file).write_bytes(text)
        manifest.append({"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]})
    (scratch / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(archive, "w") as tar:
        for path in sorted(scratch.iterdir()):
            tar.add(path, arcname=path.name)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
