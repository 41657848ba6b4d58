"""The jars the stack runs: pinned by coordinate and sha256 in `artifacts.lock.json`, in a cache that heals itself."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from consumer.errors import Abandoned, Exit, Retry, Stop
from consumer.local.files import exclusive

LOCK = Path(__file__).with_name("artifacts.lock.json")
ATTEMPTS = 3
AVRO_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"

Received = Callable[[int], None]


@dataclass(frozen=True)
class Artifact:
    """One pinned file of a Maven repository.

    `use` is `classpath` or `converter` (a jar), `plugin`, `mariadb` (a plugin too) or `registry` (a tar.gz, unpacked
    into a folder of which `tree_sha256` is the digest).
    """

    group: str
    name: str
    version: str
    classifier: str
    packaging: str
    use: str
    bytes: int
    sha256: str
    tree_sha256: str = ""

    @property
    def file_name(self) -> str:
        """Its name in the cache, as Maven would call it."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"


@dataclass(frozen=True)
class Jars:
    """What the JVMs need: the class path of broker and Connect, the folders that Connect loads plugins from, and the
    folder of the schema registry, None where Avro is not wanted."""

    classpath: tuple[Path, ...]
    plugins: tuple[Path, ...]
    registry: Path | None = None


def pinned() -> list[Artifact]:
    """The checked-in lock file."""
    return [Artifact(**entry) for entry in json.loads(LOCK.read_text(encoding="utf-8"))]


def default_cache() -> Path:
    """`embed-consumer` under XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embed-consumer"


def ensure(cache: Path, progress: Callable[[int, int], None], *, avro: bool = False, mariadb: bool = False) -> Jars:
    """Every pinned artifact in `cache`, verified by sha256; what is missing or damaged is fetched again.

    Registry and Avro converter, 150 MB, only with `avro`; the connector for MariaDB, 27 MB, only with `mariadb`.
    `progress(received, total)` is called in bytes while fetching. Raises `Retry` when the repository does not
    answer, `Stop` when what it serves is not what was pinned, or `cache` cannot be written.
    """
    _require_usable(cache)
    with exclusive(cache / ".lock", patience=600):
        uses = {"classpath", "plugin"}
        uses |= {"converter", "registry"} if avro else set()
        uses |= {"mariadb"} if mariadb else set()
        artifacts = [artifact for artifact in pinned() if artifact.use in uses]
        jars = cache / "jars"
        jars.mkdir(parents=True, exist_ok=True)
        missing = [artifact for artifact in artifacts if not _intact(jars / artifact.file_name, artifact)]
        if missing:
            _fetch_all(missing, cache, progress)
        unpacked = {
            artifact.use: _unpack(jars / artifact.file_name, cache / "plugins" / artifact.sha256[:16], artifact)
            for artifact in artifacts
            if artifact.packaging == "tar.gz"
        }
        plugins = [unpacked[use] for use in ("plugin", "mariadb") if use in uses]
        if avro:
            plugins.append(_assemble([artifact for artifact in artifacts if artifact.use == "converter"], cache))
        wanted = tuple(jars / artifact.file_name for artifact in artifacts if artifact.use == "classpath")
        return Jars(wanted, tuple(plugins), unpacked.get("registry"))


def sha256(path: Path) -> str:
    """The file's digest, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(folder: Path) -> str:
    """One digest over the names and contents of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{sha256(path)} {path.relative_to(folder).as_posix()}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def fetch(artifact: Artifact, folder: Path, received: Received) -> Path:
    """Downloads one artifact into an empty folder and returns its path; unverified."""

    @contextmanager
    def counted(_name: str, _size: int) -> Iterator[Received]:
        yield received

    context = MavenContext(repo_cache=folder, timeout=60, resolver=PythonResolver(progress_callback=counted))
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    return Path(component.artifact(artifact.classifier, artifact.packaging).resolve())


def _require_usable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / ".lock").touch()
    except OSError as error:
        raise Stop(
            f"{cache} cannot keep what the stack downloads.",
            f"The system says: {error.strerror}.",
            "Name a folder that you may write to in XDG_CACHE_HOME.",
            exit_code=Exit.USAGE,
        ) from None


def _intact(path: Path, artifact: Artifact) -> bool:
    return path.is_file() and path.stat().st_size == artifact.bytes and sha256(path) == artifact.sha256


def _fetch_all(missing: list[Artifact], cache: Path, progress: Callable[[int, int], None]) -> None:
    # What a killed download left behind is of no use to anybody: the lock is ours.
    parts = cache / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    total, done, guard = sum(artifact.bytes for artifact in missing), 0, threading.Lock()
    pool, given_up = ThreadPoolExecutor(max_workers=8), threading.Event()

    def received(count: int) -> None:
        nonlocal done
        if given_up.is_set():
            raise Abandoned
        with guard:
            done += count
            progress(done, total)

    progress(0, total)
    try:
        jobs = [pool.submit(_fetch_verified, artifact, cache, received) for artifact in missing]
        for job in jobs:
            job.result()
    finally:
        given_up.set()
        pool.shutdown(wait=False, cancel_futures=True)  # one that hangs in a read keeps nobody waiting
    shutil.rmtree(parts, ignore_errors=True)


def _fetch_verified(artifact: Artifact, cache: Path, received: Received) -> None:
    for attempt in range(ATTEMPTS):
        part = Path(tempfile.mkdtemp(dir=cache / "parts"))
        try:
            path = fetch(artifact, part, received)
        except (OSError, RuntimeError) as error:
            if attempt + 1 == ATTEMPTS:
                raise _unreachable(artifact, error) from None
            continue
        if sha256(path) == artifact.sha256:
            path.replace(cache / "jars" / artifact.file_name)
            return
    raise Stop(
        f"{artifact.file_name} is not the file that was pinned.",
        "Its sha256 differs from the one in artifacts.lock.json.",
        "Check what stands between this machine and its Maven repository (proxy, mirror).",
    )


def _unreachable(artifact: Artifact, error: Exception) -> Retry:
    return Retry(
        f"{artifact.file_name} could not be downloaded.",
        f"The Maven repository did not serve it ({type(error).__name__}).",
        "Check the network and proxy settings, then run the command again: what is downloaded stays.",
    )


def _unpack(archive: Path, target: Path, artifact: Artifact) -> Path:
    if target.is_dir() and tree_sha256(target) == artifact.tree_sha256:
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
    with tarfile.open(archive) as tar:
        tar.extractall(part, filter="data")
    return part.rename(target)


def _assemble(jars: list[Artifact], cache: Path) -> Path:
    """The Avro converter as a folder that Connect finds plugins in: its jars, and the manifest that they lack."""
    digest = hashlib.sha256("".join(artifact.sha256 for artifact in jars).encode()).hexdigest()
    plugin = cache / "plugins" / digest[:16] / "avro-converter"
    plugin.mkdir(parents=True, exist_ok=True)
    for artifact in jars:
        if not _intact(plugin / artifact.file_name, artifact):
            shutil.copyfile(cache / "jars" / artifact.file_name, plugin / artifact.file_name)
    with zipfile.ZipFile(plugin / "manifest.jar", "w") as manifest:
        manifest.writestr("META-INF/services/org.apache.kafka.connect.storage.Converter", f"{AVRO_CONVERTER}\n")
    return plugin.parent
