"""Compiled code is reused as long as no source has changed, and never after one has.

Each run is a process of its own on a copy of the package, as it is for a student who edits a file and runs again.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llvmlite import binding
from numba.core.caching import IndexDataCacheFile
from numba.core.registry import cpu_target

import exchange
from exchange.cache_folder import cache_root
from exchange.native import cache
from exchange.native.cache_file import KeyedCacheFile
from exchange.native.declarations import pass_over_declarations

SCRIPT = '''
import importlib
import json
from exchange.native import Arena, kernel
from exchange.queues.protocol import try_push
from exchange.queues.spsc import SpscQueue

@kernel
def fill(producer, record):
    """Push until the ring refuses; how many went in."""
    pushed = 0
    while try_push(producer, record):
        pushed += 1
    return pushed

if __name__ == "__main__":
    queue = SpscQueue(4, huge_pages="never")
    arena = Arena.private(4096, huge_pages="never")
    pushed = fill(queue.producer(0), arena.allocate(64))
    stats = fill.stats
    print(json.dumps({
        "pushed": pushed,
        "refused": queue.back_pressure_count(),
        "loaded": sum(stats.cache_hits.values()),
        "compiled": sum(stats.cache_misses.values()),
    }))
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package and a script that uses it."""
    source = Path(exchange.__file__).parent
    shutil.copytree(source, tmp_path / "exchange", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def run(folder: Path) -> dict[str, int]:
    """Run the script; what it prints."""
    environment = os.environ | {"PYTHONPATH": str(folder), "EXCHANGE_CACHE": str(folder / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_an_edited_kernel_in_another_file_is_picked_up_and_an_unedited_one_is_loaded(copy: Path) -> None:
    """``fill`` is in the script, the push that is merged into it in spsc.py, and what that counts in ring_memory.py."""
    assert run(copy) == {"pushed": 4, "refused": 1, "loaded": 0, "compiled": 1}
    assert run(copy) == {"pushed": 4, "refused": 1, "loaded": 1, "compiled": 0}

    edited = copy / "exchange" / "queues" / "ring_memory.py"
    before, text = edited.stat(), edited.read_text()
    assert text.count("load_relaxed(ring + REFUSED) + 1)") == 1
    edited.write_text(text.replace("load_relaxed(ring + REFUSED) + 1)", "load_relaxed(ring + REFUSED) + 5)"))
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and the same time as before
    assert run(copy) == {"pushed": 4, "refused": 5, "loaded": 0, "compiled": 1}

    edited.write_text(text)
    assert run(copy) == {"pushed": 4, "refused": 1, "loaded": 1, "compiled": 0}


def test_the_digest_depends_on_the_content_and_place_of_every_included_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_included", {})
    plain = cache.source_digest()
    digests = {plain}
    for name, content in (("a.py", b"1"), ("a.py", b"2"), ("b.py", b"2")):
        cache._included.clear()
        cache._included[tmp_path / name] = content
        digests.add(cache.source_digest())
    assert len(digests) == 4
    cache._included.clear()
    assert cache.source_digest() == plain


def test_the_oldest_directories_are_forgotten_and_the_present_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba import config

    monkeypatch.setenv("EXCHANGE_CACHE", str(tmp_path))
    monkeypatch.setattr(config, "CACHE_DIR", config.CACHE_DIR)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # so that what the call sets is taken back at the end
    for age in range(cache.KEPT_DIRECTORIES + 4):
        old = tmp_path / "kernels" / f"digest-{age}"
        old.mkdir(parents=True)
        os.utime(old, (1_000_000 - age, 1_000_000 - age))
    present = cache.use_cache_directory()
    left = {path.name for path in (tmp_path / "kernels").iterdir()}
    assert left == {present.name} | {f"digest-{age}" for age in range(cache.KEPT_DIRECTORIES - 1)}
    assert Path(os.environ["NUMBA_CACHE_DIR"]) == present


def test_code_that_two_processes_kept_at_once_is_never_loaded_for_other_types(tmp_path: Path) -> None:
    """Both found no index, so both take the first number; the one's index and the other's code are left."""
    late, early = (KeyedCacheFile(str(tmp_path), "fill", "stamp") for _ in range(2))
    late._load_index = dict  # it had looked before the other kept anything
    early.save("int64", "code for int64")
    data = late._save_data
    late._save_data = lambda *_: None  # its index comes last, its code came first
    late.save("float64", "code for float64")
    late._save_data = data

    found = KeyedCacheFile(str(tmp_path), "fill", "stamp")
    assert IndexDataCacheFile.load(found, "float64")[1] == "code for int64", "what numba itself would take"
    assert found.load("float64") is None
    found.save("float64", "code for float64")
    found.save("int64", "code for int64")
    assert [found.load(key) for key in ("float64", "int64")] == ["code for float64", "code for int64"]


def test_an_index_with_types_of_a_module_that_is_not_here_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_types_of_a_test.py").write_text("class Own: ...\n")
    kept = KeyedCacheFile(str(tmp_path), "fill", "stamp")
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path)
        own = importlib.import_module("own_types_of_a_test")
        kept.save(own.Own, "code for its own")
        assert kept.load(own.Own) == "code for its own"
    del sys.modules["own_types_of_a_test"]
    (tmp_path / "own_types_of_a_test.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError):
        IndexDataCacheFile._load_index(kept)  # as numba itself does
    assert kept.load("int64") is None
    kept.save("int64", "code for int64")
    assert kept.load("int64") == "code for int64"


def test_every_kernel_keeps_its_code_in_such_files() -> None:
    assert cache._dispatchers
    assert {type(one._cache._cache_file) for one in cache._dispatchers} == {KeyedCacheFile}


def test_of_a_module_only_functions_with_a_body_are_optimized(monkeypatch: pytest.MonkeyPatch) -> None:
    pass_over_declarations()
    module = binding.parse_assembly(
        "declare i64 @other(i64)\n"
        "define i64 @own(i64 %0) { %2 = mul i64 %0, 4  %3 = add i64 %2, 0  ret i64 %3 }"
    )
    codegen = cpu_target.target_context.codegen()
    built = []

    def build() -> Any:
        built.append(whole())
        return built[-1]

    whole = codegen._function_pass_manager
    monkeypatch.setattr(codegen, "_function_pass_manager", build)
    codegen.create_library("some")._optimize_functions(module)
    assert len(built) == 1
    assert "shl i64 %0, 2" in str(module)
    assert "add" not in str(module)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"EXCHANGE_CACHE": "/somewhere"}, "/somewhere"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/hpc-exchange"),
        ({"HOME": "/home/someone"}, "/home/someone/.cache/hpc-exchange"),
    ],
)
def test_where_the_cache_is(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXCHANGE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_an_edit_of_what_is_never_compiled_keeps_the_code(copy: Path) -> None:
    assert run(copy) == {"pushed": 4, "refused": 1, "loaded": 0, "compiled": 1}
    for name in ("cli.py", "client.py", "gateway/server.py"):
        with (copy / "exchange" / name).open("a") as file:
            file.write("\n# edited\n")
    assert run(copy) == {"pushed": 4, "refused": 1, "loaded": 1, "compiled": 0}


def test_the_sources_of_compiled_code_are_found_through_every_form_of_import(tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "loop.py": "from exchange.ring import (\n    push,\n)\n@kernel\ndef run(): ...\n",
        "ring.py": "def lazily():\n    from exchange.layers import locked, spsc\n",
        "layers/__init__.py": "import exchange.limits\n",
        "layers/spsc.py": "import exchange.layers.words as words\n",
        "layers/locked.py": "",
        "layers/words.py": "",
        "layers/page.py": "from exchange.loop import run\n",
        "limits.py": "",
        "cli.py": "from exchange.loop import run\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {str(path.relative_to(tmp_path)) for path in cache.compiled_sources(tmp_path)}
    assert found == files.keys() - {"cli.py", "layers/page.py"}
