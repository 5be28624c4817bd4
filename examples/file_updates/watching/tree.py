"""The trees that are watched, and a look at them: the part that waits for disks, for a thread.

A look changes nothing but which directories are watched for hints. Whoever asked for it remembers
what it has found, so that a look whose result nobody takes leaves everything as it was.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from ..changes import FileFound, TreeChange
from .compare import compare
from .hints import Hint
from .snapshot import Entry, Index, entry_of, is_inside, let_settle, walk

logger = logging.getLogger(__name__)


@attrs.frozen
class Watch:
    """One directory on the list of a watcher.

    Attributes:
        path: Its absolute path, without links.
        recursive: Whether the directories below are watched too.
    """

    path: str
    recursive: bool = attrs.field(kw_only=True)

    def covers(self, path: str) -> bool:
        """Whether what happens at ``path`` is told."""
        return path == self.path or self.lists(os.path.dirname(path))

    def lists(self, directory: str) -> bool:
        """Whether what happens in ``directory`` is told."""
        return directory == self.path or (self.recursive and is_inside(directory, self.path))


@attrs.frozen(kw_only=True)
class News:
    """What was known of a tree and is so no longer, and what is so now."""

    gone: Mapping[str, Entry]
    come: Mapping[str, Entry]

    @property
    def gone_directories(self) -> Iterator[str]:
        """The paths at which there is no longer a directory."""
        for path, entry in self.gone.items():
            if entry.is_dir and not (path in self.come and self.come[path].is_dir):
                yield path


@attrs.frozen(kw_only=True)
class Sight:
    """What a look has found.

    Attributes:
        changes: What happened, in all trees together.
        news: What each tree has to learn.
        failures: The trees that cannot be watched any more.
    """

    changes: list[TreeChange]
    news: dict[Tree, News]
    failures: dict[Tree, OSError]


class Tree:
    """A watch and what is known of its files.

    Attributes:
        watch: The watch.
        known: What the last look has found.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.known = Index()

    def first_look(
        self, *, watch: Callable[[str], None], check: Callable[[], None]
    ) -> tuple[Index, list[FileFound]]:
        """Read everything from the disk.

        Returns:
            What is to be :attr:`known`, and what is to be said.

        Raises:
            OSError: As for :meth:`read`.
        """
        entries = self.read({self.watch.path: True}, watch=watch, check=check).come
        known = Index()
        known.replace((), entries)
        return known, [FileFound(path) for path in sorted(entries) if not entries[path].is_dir]

    def read(
        self,
        paths: Mapping[str, bool],
        *,
        watch: Callable[[str], None],
        check: Callable[[], None],
    ) -> News:
        """Read what is at these paths, and at the root, from the disk.

        Args:
            paths: The paths, and whether to read anew what is below. Without need, what is below a
                directory that was known is not read.
            watch: Called with each directory before it is listed.
            check: Called at every step, to raise if nobody waits for the result any more.

        Raises:
            OSError: The root cannot be read, or the system can give no more.
        """
        root = self.watch.path
        before: dict[str, Entry] = {}
        after: dict[str, Entry] = {}
        for path in sorted({root, *paths}):  # a directory comes before what is in it
            check()
            if path in before or path in after:
                continue  # read with a directory above
            old, entry = self.known.get(path), entry_of(path)
            if path == root and (entry is None or not entry.is_dir):
                code = errno.ENOENT if entry is None else errno.ENOTDIR
                raise OSError(code, os.strerror(code))
            if entry is not None:
                after[path] = entry
            if entry is None or not entry.is_dir or not self.watch.lists(path):
                before |= self.known.subtree(path)
            elif old is not None and old.access == entry.access and not paths.get(path):
                before[path] = old
            else:
                before |= self.known.subtree(path)
                found, unreadable = walk(
                    path,
                    recursive=self.watch.recursive,
                    required=path == root,
                    watch=watch,
                    check=check,
                )
                after |= found
                for directory, error in unreadable.items():
                    if self.known.get(directory) != after[directory]:  # else it was said before
                        logger.warning("cannot read %r: %s", directory, error.strerror)
        let_settle(after)
        return News(
            gone={path: entry for path, entry in before.items() if after.get(path) != entry},
            come={path: entry for path, entry in after.items() if before.get(path) != entry},
        )


def look(
    trees: Iterable[Tree],
    hint: Hint,
    *,
    watch: Callable[[str], None],
    check: Callable[[], None],
) -> Sight:
    """Look where a hint says, in all trees, and tell what happened there."""
    sight = Sight(changes=[], news={}, failures={})
    gone: dict[str, Entry] = {}
    come: dict[str, Entry] = {}
    for tree in trees:
        if hint.everywhere:
            paths: Mapping[str, bool] = {tree.watch.path: True}
        else:
            paths = {path: new for path, new in hint.paths.items() if tree.watch.covers(path)}
        try:
            news = tree.read(paths, watch=watch, check=check)
        except OSError as error:
            sight.failures[tree] = error
        else:
            sight.news[tree] = news
            gone |= news.gone
            come |= news.come
    sight.changes.extend(compare(gone, come, hint.renamed))
    return sight
