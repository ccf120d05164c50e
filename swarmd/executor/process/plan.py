"""From a task to what its launcher becomes. No I/O except looking up users and directories in `resolve`."""

from __future__ import annotations

import grp
import os
import pwd
import signal
from pathlib import Path
from typing import Final

import msgspec

from swarmd.executor.contract import TaskError
from swarmd.model import ContainerSpec, Task
from swarmd.model.generic_resources import resource_environment

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLAIN_NAME_MAX: Final = 128


class StopPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a task is asked to stop, and how long it may take before it is killed."""

    signal_number: int = signal.SIGTERM
    grace_s: float = 10.0


class Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whom a task runs as. `uid` -1 means as swarmd does."""

    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()
    home: str = "/"


def check(task: Task) -> None:
    """Raise `TaskError` for a task that plain processes cannot run; pure."""
    container = task.spec.container
    if not task.id or len(task.id) > _PLAIN_NAME_MAX or task.id.startswith(".") or "/" in task.id:
        raise TaskError(f"{task.id!r} cannot name a directory")
    if not container.command + container.args:
        raise TaskError("the process executor needs a command or args: it runs no image's default")
    limits = task.spec.resources.limits
    if limits.nano_cpus or limits.memory_bytes:
        raise TaskError("resources.limits: the process executor cannot enforce limits")
    driver = task.spec.log_driver or task.log_driver
    if driver is not None and driver.name:
        raise TaskError(f"log driver {driver.name!r}: the process executor has none, it writes a file a task")
    for text in (*container.command, *container.args, *container.env, container.dir, container.image, container.user):
        if "\0" in text:
            raise TaskError("a command, environment variable or path holds a NUL character")
    for variable in container.env:
        if not variable.partition("=")[0]:
            raise TaskError(f"env: {variable!r} names no variable")
    stop_policy(container)


def stop_policy(container: ContainerSpec) -> StopPolicy:
    """Raises `TaskError` for a stop signal nobody knows."""
    return StopPolicy(signal_number=parse_signal(container.stop_signal), grace_s=container.stop_grace_period_s)


def parse_signal(text: str) -> int:
    """`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; empty is SIGTERM. Raises `TaskError`."""
    name, _, offset = text.upper().removeprefix("SIG").partition("+")
    if not name:
        return signal.SIGTERM
    if name.isdecimal():
        number = int(name)
    else:
        found = signal.Signals.__members__.get(f"SIG{name}")
        number = 0 if found is None else int(found)
    number += int(offset) if offset.isdecimal() else 0
    if number not in signal.valid_signals() or (offset and name != "RTMIN"):
        raise TaskError(f"stop_signal: no signal is called {text!r}")
    return number


def encode_plan(task: Task, *, path: str) -> bytes:
    """The launcher's plan. Looks up the user and the root directory; raises `TaskError` when they do not fit."""
    container = task.spec.container
    root = _root(container)
    account = _account(container.user, in_root=bool(root))
    stop = stop_policy(container)
    records = [("arg", argument) for argument in container.command + container.args]
    records += [("env", f"{name}={value}") for name, value in _environment(task, account, path, root).items()]
    records += [("dir", container.dir or "/"), ("root", root)]
    if account.uid >= 0:
        records += [("uid", str(account.uid)), ("gid", str(account.gid))]
        records += [("group", str(group)) for group in account.groups]
    records += [("stop_signal", str(stop.signal_number)), ("stop_grace_s", repr(stop.grace_s))]
    return b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in records)


def decode_stop(plan: bytes) -> StopPolicy:
    """How to stop a task of which nothing but its files is left."""
    records = dict(record.partition(b"=")[::2] for record in plan.split(b"\0"))
    try:
        return StopPolicy(signal_number=int(records[b"stop_signal"]), grace_s=float(records[b"stop_grace_s"]))
    except (KeyError, ValueError):
        return StopPolicy()


def _environment(task: Task, account: Account, path: str, root: str) -> dict[str, str]:
    container = task.spec.container
    environment = {"PATH": SYSTEM_PATH if root else path, "HOME": account.home}
    if container.hostname:
        environment["HOSTNAME"] = container.hostname
    for variable in container.env:
        name, _, value = variable.partition("=")
        environment[name] = value
    environment |= resource_environment(task.assigned_generic_resources)
    # Last: whoever finds the process must be able to trust these.
    return environment | {
        "SWARM_TASK_ID": task.id,
        "SWARM_TASK_NAME": task.name,
        "SWARM_SERVICE_NAME": task.service_name,
        "SWARM_SLOT": str(task.slot),
        "SWARM_NODE_ID": task.node_id,
    }


def _root(container: ContainerSpec) -> str:
    """The image, if it is a directory to live in; else empty."""
    if not container.image.startswith("/"):
        return ""
    if not Path(container.image).is_dir():
        raise TaskError(f"image {container.image}: no such directory")
    if os.geteuid() != 0:
        raise TaskError(f"image {container.image}: only root can make a directory the task's root")
    return container.image


def _account(user: str, *, in_root: bool) -> Account:
    if not user:
        return Account(home=_home(os.geteuid(), in_root=in_root))
    name, _, group = user.partition(":")
    if in_root and not name.isdecimal():
        raise TaskError(f"user {user!r}: with a root directory of its own, give the user as a number")
    account = _by_number(int(name), in_root=in_root) if name.isdecimal() else _by_name(name)
    if group:
        gid = _group(group, in_root=in_root)
        account = msgspec.structs.replace(account, gid=gid, groups=(gid,))
    if account.uid == os.geteuid() and os.geteuid() != 0:
        return Account(home=account.home)
    if os.geteuid() != 0:
        raise TaskError(f"user {user!r}: only root can run a task as another user")
    return account


def _by_name(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise TaskError(f"user {name!r}: no such user") from error
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, home=entry.pw_dir)


def _by_number(uid: int, *, in_root: bool) -> Account:
    try:
        if not in_root:
            return _by_name(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass  # a number without a name is a user all the same
    return Account(uid=uid, gid=uid, groups=(uid,))


def _group(group: str, *, in_root: bool) -> int:
    if group.isdecimal():
        return int(group)
    if in_root:
        raise TaskError(f"group {group!r}: with a root directory of its own, give the group as a number")
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise TaskError(f"group {group!r}: no such group") from error


def _home(uid: int, *, in_root: bool) -> str:
    try:
        return "/" if in_root else pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
