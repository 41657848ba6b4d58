"""`python -m consumer.local.relock`: resolves the versions of versions.py anew into artifacts.lock.json."""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from jgo.maven import MavenContext

from consumer.local.artifacts import LOCK, Artifact, fetch, sha256, tree_sha256
from consumer.local.versions import APICURIO, DEBEZIUM, DEBEZIUM_MARIADB, KAFKA, LOG4J

# slf4j needs a binding, or broker and Connect would log nothing.
CLASSPATH = (
    f"org.apache.kafka:kafka_2.13:{KAFKA}",
    f"org.apache.kafka:connect-runtime:{KAFKA}",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}",
)
CONVERTER = (f"io.apicurio:apicurio-registry-utils-converter:{APICURIO}",)
# What Connect gives to every plugin; a copy of the plugin's own would not be used.
PROVIDED = ("org.apache.kafka", "org.slf4j", "org.lz4", "org.xerial.snappy", "com.github.luben")
PLUGIN = Artifact(
    "io.debezium", "debezium-connector-postgres", DEBEZIUM, "plugin", "tar.gz", use="plugin", bytes=0, sha256=""
)
MARIADB = Artifact(
    "io.debezium", "debezium-connector-mariadb", DEBEZIUM_MARIADB, "plugin", "tar.gz", use="mariadb", bytes=0, sha256=""
)
REGISTRY = Artifact(
    "io.apicurio", "apicurio-registry-app", APICURIO, "all", "tar.gz", use="registry", bytes=0, sha256=""
)


def main() -> None:
    """Resolves, downloads and hashes every artifact, and writes the lock file."""
    with tempfile.TemporaryDirectory() as folder:
        poms = Path(folder) / "poms"
        converter = [jar for jar in jars(poms, CONVERTER, "converter") if jar.group not in PROVIDED]
        pin([*jars(poms, CLASSPATH, "classpath"), PLUGIN, MARIADB, *converter, REGISTRY], LOCK)


def pin(unpinned: Sequence[Artifact], lock: Path) -> None:
    """Download and hash them all, and write the lock file."""
    with tempfile.TemporaryDirectory() as folder:
        entries = [_pinned(artifact, Path(folder) / str(index)) for index, artifact in enumerate(unpinned)]
    lock.write_text(json.dumps([asdict(entry) for entry in entries], indent=1) + "\n", encoding="utf-8")
    sys.stderr.write(f"{len(entries)} artifacts pinned in {lock}\n")


def jars(repository: Path, wanted: Sequence[str], use: str) -> list[Artifact]:
    """These jars with all that they need, not pinned yet; `repository` is a folder for what tells so."""
    # One root at a time: resolved together, one root's managed versions would bend the other's.
    context = MavenContext(repo_cache=repository, timeout=60)
    found: dict[tuple[str, str, str], str] = {}
    for root in wanted:
        roots, transitive = context.resolver.resolve([context.create_dependency(root)])
        for jar in (*roots, *transitive):
            if found.setdefault((jar.groupId, jar.artifactId, jar.classifier), jar.version) != jar.version:
                raise SystemExit(f"{jar.groupId}:{jar.artifactId} is wanted in two versions")
    return [
        Artifact(group, name, version, classifier, "jar", use=use, bytes=0, sha256="")
        for (group, name, classifier), version in sorted(found.items())
    ]


def _pinned(artifact: Artifact, folder: Path) -> Artifact:
    path = fetch(artifact, folder, lambda _count: None)
    entry = replace(artifact, bytes=path.stat().st_size, sha256=sha256(path))
    if artifact.packaging == "jar":
        return entry
    with tarfile.open(path) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    return replace(entry, tree_sha256=tree_sha256(folder / "unpacked"))


if __name__ == "__main__":
    main()
