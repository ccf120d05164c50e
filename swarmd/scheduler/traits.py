"""What a node's software and machine can do, as masks: features, plugins, platforms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from swarmd.model import Node, Platform
from swarmd.model.platforms import canonical_architecture, runs

PluginKey = tuple[str, str]
"""(type, name without `:latest`)."""

LOG: Final = "Log"
K = TypeVar("K")


def plugin_key(type: str, name: str) -> PluginKey:
    """Docker's `name` and `name:latest` are one plugin."""
    return (type, name.removesuffix(":latest"))


class TagMasks(Generic[K]):
    """`tag -> nodes that have it`. A node has any number of tags."""

    def __init__(self) -> None:
        self.masks: dict[K, int] = {}

    def change(self, bit: int, old: Iterable[K], new: Iterable[K]) -> None:
        """The node of `bit` had the tags `old` and has the tags `new`."""
        if old == new:
            return
        for tag in old:
            left = self.masks.get(tag, 0) & ~bit
            if left:
                self.masks[tag] = left
            else:
                self.masks.pop(tag, None)
        for tag in new:
            self.masks[tag] = self.masks.get(tag, 0) | bit

    def of(self, tag: K) -> int:
        """The nodes that have it."""
        return self.masks.get(tag, 0)


class Traits:
    """All of them, of every node there is."""

    def __init__(self) -> None:
        self.features: TagMasks[str] = TagMasks()
        self.plugins: TagMasks[PluginKey] = TagMasks()
        self.plugin_types: TagMasks[str] = TagMasks()
        """Which nodes say anything of plugins of a type."""
        self.platforms: TagMasks[Platform] = TagMasks()

    def change(self, bit: int, old: Node | None, new: Node | None) -> None:
        """A node came (no `old`), changed, or went (no `new`)."""
        before = old.description if old is not None else None
        after = new.description if new is not None else None
        self.features.change(bit, before.features if before else (), after.features if after else ())
        self.platforms.change(bit, _platform(old), _platform(new))
        plugins = (before.plugins if before else (), after.plugins if after else ())
        if plugins[0] != plugins[1]:
            keys = [tuple({plugin_key(one.type, one.name) for one in side}) for side in plugins]
            self.plugins.change(bit, *keys)
            types = [tuple({type for type, _ in side}) for side in keys]
            self.plugin_types.change(bit, *types)

    def with_plugin(self, plugin: PluginKey, everyone: int) -> int:
        """The nodes that have the plugin. A node that names no log driver at all is taken to have every one
        (reference orchestration 7.4)."""
        mask = self.plugins.of(plugin)
        return mask | (everyone & ~self.plugin_types.of(LOG)) if plugin[0] == LOG else mask

    def running(self, wanted: tuple[Platform, ...]) -> int:
        """The nodes that run what was made for one of `wanted`."""
        mask = 0
        for platform, nodes in self.platforms.masks.items():
            if runs(platform, wanted):
                mask |= nodes
        return mask


def _platform(node: Node | None) -> tuple[Platform, ...]:
    if node is None:
        return ()
    platform = node.description.platform
    return (Platform(os=platform.os, architecture=canonical_architecture(platform.architecture)),)
