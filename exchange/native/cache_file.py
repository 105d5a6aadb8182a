"""What a kernel has on disk is told apart by what it is, so that processes that compile at once cannot mix it up.

numba keeps one index for each function, from the types of its arguments to the number of a file with machine code. Two
processes that compile one function for different types take the same number, and which index and which code are left
depends on who came last. Whoever loads then gets code for other types than it has asked for, and a kernel that reads
another record's fields does not fail but goes on. An exchange, its load and its feed that are started together on a
fresh machine are such processes.

So each file says what it is for, and what is for something else counts as not there: it is compiled once more. So does
an index, or a code, that names a type of a module which this process does not have, a test's for instance: numba would
end with the error of the import.

Rules: it stands in for numba's own file of a dispatcher's cache; see :func:`keep_apart`."""

from typing import Any

from numba.core.caching import IndexDataCacheFile


class KeyedCacheFile(IndexDataCacheFile):  # type: ignore[misc]
    """numba's files of one function, with the key in the file of the code as well."""

    def save(self, key: Any, data: Any) -> None:
        """Keep what was compiled for a key."""
        super().save(key, (key, data))

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except (ImportError, AttributeError):
            return {}

    def load(self, key: Any) -> Any:
        """What was compiled for the key; None if there is nothing."""
        try:
            found = super().load(key)
        except (ImportError, AttributeError):  # of a code that is left where ours was about to be
            return None
        return found[1] if found is not None and found[0] == key else None


def keep_apart(dispatcher: Any) -> None:
    """Let a dispatcher with a cache have it in such files."""
    kept = dispatcher._cache
    implementation = kept._impl
    kept._cache_file = KeyedCacheFile(
        kept.cache_path, implementation.filename_base, implementation.locator.get_source_stamp()
    )
