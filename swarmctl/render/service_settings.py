"""The settings of an inspected service: only what is not as it would be by itself."""

from __future__ import annotations

from collections.abc import Iterator

from swarmctl.render.layout import SummaryLine
from swarmctl.render.text import duration
from swarmd.model import (
    DependencyCondition,
    Driver,
    FailureAction,
    Placement,
    PlacementStrategy,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
    UpdateOrder,
)
from swarmd.model.modes import DEFAULT_MONITOR_S, DEFAULT_PROGRESS_TIMEOUT_S


def update_lines(title: str, config: UpdateConfig) -> Iterator[SummaryLine]:
    """Settings of an update or a rollback."""
    if config == UpdateConfig():
        return
    yield title, None
    yield "  Parallelism", str(config.parallelism) if config.parallelism else "all at once"
    yield "  Delay", duration(config.delay_s) if config.delay_s else ""
    yield "  Monitor", duration(config.monitor_s) if config.monitor_s != DEFAULT_MONITOR_S else ""
    action, order = config.failure_action, config.order
    yield "  On failure", action.name.lower() if action is not FailureAction.PAUSE else ""
    yield "  Max failure ratio", f"{config.max_failure_ratio:g}" if config.max_failure_ratio else ""
    yield "  Order", "start-first" if order is UpdateOrder.START_FIRST else ""
    if config.progress_timeout_s != DEFAULT_PROGRESS_TIMEOUT_S:
        yield "  Progress timeout", duration(config.progress_timeout_s) if config.progress_timeout_s else "none"


def restart_lines(policy: RestartPolicy) -> Iterator[SummaryLine]:
    """When stopped tasks are replaced."""
    if policy == RestartPolicy():
        return
    yield "Restart", None
    yield "  Condition", policy.condition.name.lower().replace("_", "-")
    yield "  Delay", duration(policy.delay_s)
    yield "  Max attempts", str(policy.max_attempts) if policy.max_attempts else ""
    yield "  Window", duration(policy.window_s) if policy.window_s else ""


def placement_lines(placement: Placement, indent: str) -> Iterator[SummaryLine]:
    """Where tasks may go."""
    if placement == Placement():
        return
    yield f"{indent}Placement", None
    yield f"{indent} Constraints", _listed(placement.constraints)
    yield f"{indent} Preferences", _listed(tuple(f"spread={one.spread}" for one in placement.preferences))
    platforms = tuple(one.os + (f"/{one.architecture}" if one.architecture else "") for one in placement.platforms)
    yield f"{indent} Platforms", _listed(platforms)
    yield f"{indent} Max per node", str(placement.max_replicas) if placement.max_replicas else ""
    is_binpack = placement.strategy is PlacementStrategy.BINPACK
    yield f"{indent} Strategy", "binpack" if is_binpack else ""


def dependency_lines(spec: ServiceSpec) -> Iterator[SummaryLine]:
    """What it waits for."""
    said = tuple(
        one.service + (f":{one.condition.name.lower()}" if one.condition is not DependencyCondition.STARTED else "")
        for one in spec.depends_on
    )
    yield "Depends on", _listed(said)


def driver_lines(driver: Driver | None) -> Iterator[SummaryLine]:
    """Where output goes."""
    if driver is not None:
        yield "LogDriver", driver.name
        yield from ((f"  {key}", driver.options[key]) for key in sorted(driver.options))


def _listed(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(texts)}]" if texts else ""
