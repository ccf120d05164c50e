"""Secrets and configs: the lists, the summaries, and plain data without what is nobody's business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from swarmctl.render.layout import TASK_GAP, SummaryLine, summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import instant, one_line, relative_time
from swarmd.model import Config, Secret
from swarmd.wire.payloads import ConfigView, SecretView

_KEPT_CONTROLS = frozenset("\n\t")


def secret_document(view: SecretView) -> Any:
    """A secret as plain data. That it has a payload goes without saying: not even empty fields stand for it."""
    document = plain(view.secret)
    document["spec"].pop("data", None)
    if sealed := document["sealed"]:
        document["sealed"] = {"key_id": sealed["key_id"]}
    return document


def config_document(view: ConfigView) -> Any:
    """A config as plain data, the payload in base64; without one in a list."""
    document = plain(view.config)
    if not view.config.spec.data:
        document["spec"].pop("data", None)
    return document


def secret_list(views: Sequence[SecretView], now: float, *, wide: bool) -> str:
    """`secret ls`, in the order given."""
    secrets = [view.secret for view in views]
    drivers = [[secret.spec.driver.name if secret.spec.driver else ""] for secret in secrets]
    return _list(secrets, now, ("Driver",), drivers, wide=wide)


def config_list(views: Sequence[ConfigView], now: float, *, wide: bool) -> str:
    """`config ls`, in the order given."""
    configs = [view.config for view in views]
    return _list(configs, now, (), [[] for _ in configs], wide=wide)


def _list(
    payloads: Sequence[Secret | Config], now: float, own: tuple[str, ...], cells: list[list[str]], *, wide: bool
) -> str:
    header = ["ID", "Name", *own, "Created"]
    rows = [
        [payload.id, payload.spec.name, *own_cells, relative_time(payload.meta.created_at, now)]
        for payload, own_cells in zip(payloads, cells, strict=True)
    ]
    if wide:
        header += ["Updated", "Labels"]
        rows = [
            [*row, relative_time(payload.meta.updated_at, now), _labels(payload.spec.labels)]
            for row, payload in zip(rows, payloads, strict=True)
        ]
    return table(header, rows, gap=TASK_GAP)


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def secret_summary(view: SecretView) -> str:
    """`secret inspect`."""
    return summary(_lines(view.secret))


def config_summary(view: ConfigView) -> str:
    """`config inspect`: the payload below, if it is text."""
    data = view.config.spec.data
    text = _as_text(data)
    head = summary([*_lines(view.config), ("Size", f"{len(data)} bytes")])
    if text is None:
        return f"{head}\nThe payload is no text: swarmctl config inspect --payload {one_line(view.config.spec.name)}\n"
    return f"{head}\n{text}" + ("" if text.endswith("\n") else "\n")


def _lines(payload: Secret | Config) -> Iterator[SummaryLine]:
    yield "ID", payload.id
    yield "Name", payload.spec.name
    if payload.spec.labels:
        yield "Labels", None
        yield from ((f"  {key}", payload.spec.labels[key]) for key in sorted(payload.spec.labels))
    yield "Created", instant(payload.meta.created_at) or ""
    if payload.meta.updated_at != payload.meta.created_at:
        yield "Updated", instant(payload.meta.updated_at) or ""


def _as_text(data: bytes) -> str | None:
    """`data` as a terminal may be shown it; None if it is anything but lines of text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    is_safe = all(character.isprintable() or character in _KEPT_CONTROLS for character in text)
    return text if is_safe else None
