"""Which tasks to move so that a service is spread as its preferences say: a plan, the largest improvement first.

The nodes are the leaves of a tree, one level for each preference (reference orchestration 7.7, 11.2). A move goes from
the fullest branch to the emptiest one that takes it, at the highest level where they differ by two tasks or more: less
is no improvement. Where a task lands is the scheduler's to say, which by the same measure chooses the same branch.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from swarmd.model import Node, Placement, Task, TaskState
from swarmd.model.constraints import attribute_of
from swarmd.wire.orchestration import Move

IMPROVEMENT_MIN = 2
"""By how many tasks two branches must differ before one is moved from the one to the other."""

Fits = Callable[[Node, Task, Sequence[Task]], bool]
"""Whether a node takes the task, beside what it has and what was planned to come to it."""


def plan_moves(
    tasks: Iterable[Task], nodes: Sequence[Node], placement: Placement, fits: Fits, *, limit: int
) -> tuple[Move, ...]:
    """At most `limit` moves (0: as many as improve anything). `tasks` are the service's that hold a place on a node and
    are to keep one; those on nodes that are not among `nodes` stay where they are."""
    tree = _Tree(nodes, placement)
    for task in sorted(tasks, key=lambda task: (task.status.state is TaskState.RUNNING, -task.slot), reverse=True):
        tree.put(task)
    moves: list[Move] = []
    arriving: dict[str, list[Task]] = {}
    while not limit or len(moves) < limit:
        step = tree.next_step(lambda node, task: fits(node, task, arriving.get(node.id, ())))
        if step is None:
            break
        task, source, target = step
        arriving.setdefault(target.id, []).append(task)
        moves.append(Move(task_id=task.id, slot=task.slot, from_node_id=source.id, to_node_id=target.id))
    return tuple(moves)


class _Branch:
    """A vertex: how many tasks are below, and its children by that count. Entries of the heaps that are not true any
    more are skipped when they come up."""

    def __init__(self, key: str, node: Node | None = None) -> None:
        self.key = key
        self.node = node
        self.count = 0
        self.movable: list[Task] = []
        """Of a leaf: the tasks that may go, the first to go last."""
        self.movable_count = 0
        self.is_closed = False
        """Nothing below takes a task any more."""
        self.children: dict[str, _Branch] = {}
        self.fullest: list[tuple[int, str]] = []
        self.emptiest: list[tuple[int, str]] = []

    def child(self, key: str, node: Node | None = None) -> _Branch:
        """The child of this name, made if need be."""
        if key not in self.children:
            self.children[key] = _Branch(key, node)
            self.note(self.children[key])
        return self.children[key]

    def note(self, child: _Branch) -> None:
        """A child's count changed."""
        heapq.heappush(self.fullest, (-child.count, child.key))
        heapq.heappush(self.emptiest, (child.count, child.key))

    def first_fullest(self) -> _Branch | None:
        """The child with the most tasks, of those from which one may go."""
        while self.fullest:
            count, key = self.fullest[0]
            child = self.children[key]
            if -count == child.count and child.movable_count:
                return child
            heapq.heappop(self.fullest)
        return None

    def first_emptiest(self) -> _Branch | None:
        """The child with the fewest tasks, of those that may take one."""
        while self.emptiest:
            count, key = self.emptiest[0]
            child = self.children[key]
            if count == child.count and not child.is_closed:
                return child
            heapq.heappop(self.emptiest)
        return None

    def branches(self) -> Iterator[_Branch]:
        """Itself and all below that have children, from the top."""
        level = [self]
        while level:
            yield from level
            level = [child for branch in level for child in branch.children.values() if child.children]


class _Tree:
    def __init__(self, nodes: Sequence[Node], placement: Placement) -> None:
        self._root = _Branch("")
        self._paths: dict[str, list[_Branch]] = {}
        descriptors = [preference.spread for preference in placement.preferences]
        for node in nodes:
            path = [self._root]
            for descriptor in descriptors:
                path.append(path[-1].child(attribute_of(node, descriptor) or ""))
            path.append(path[-1].child(node.id, node))
            self._paths[node.id] = path

    def put(self, task: Task) -> None:
        """A task that is on its node, and may go."""
        path = self._paths.get(task.node_id)
        if path is not None:
            path[-1].movable.append(task)
            self._change(path, 1, movable=1)

    def next_step(self, fits: Callable[[Node, Task], bool]) -> tuple[Task, Node, Node] | None:
        """The best move there is, carried out in the tree. A task that came by a move does not go again."""
        for branch in self._root.branches():
            while True:
                source, target = branch.first_fullest(), branch.first_emptiest()
                if source is None or target is None or source.count - target.count < IMPROVEMENT_MIN:
                    break
                leaf = self._fullest_leaf(source)
                taker = self._open_leaf(target, leaf.movable[-1], fits)
                if taker is None:
                    continue  # nothing below takes it: the branch is closed now, and another one is the emptiest
                task = leaf.movable.pop()
                assert leaf.node is not None
                assert taker.node is not None
                self._change(self._paths[leaf.node.id], -1, movable=-1)
                self._change(self._paths[taker.node.id], 1)
                return task, leaf.node, taker.node
        return None

    def _fullest_leaf(self, branch: _Branch) -> _Branch:
        while branch.node is None:
            child = branch.first_fullest()
            assert child is not None
            branch = child
        return branch

    def _open_leaf(self, branch: _Branch, task: Task, fits: Callable[[Node, Task], bool]) -> _Branch | None:
        """The emptiest leaf below that takes the task; what does not is closed."""
        if branch.node is not None:
            if fits(branch.node, task):
                return branch
            branch.is_closed = True
            return None
        while (child := branch.first_emptiest()) is not None:
            leaf = self._open_leaf(child, task, fits)
            if leaf is not None:
                return leaf
        branch.is_closed = True
        return None

    def _change(self, path: list[_Branch], delta: int, *, movable: int = 0) -> None:
        for position, branch in enumerate(path):
            branch.count += delta
            branch.movable_count += movable
            if position:
                path[position - 1].note(branch)
