"""What a user meets at the command line before anything is connected: mistakes, in words and with their exit code."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from consumer.cli import main, output
from consumer.cli.options import Given
from consumer.errors import Stop
from consumer.source import Broker
from consumer.source.client import OFTEN_SET

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
TABLE = {"topic": "shop.public.products", "text": "{{ title }}"}
PINNED = {"model": "acme/model", "revision": "0" * 40}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("consumer.cli.options.given", Given())
    for name in [name for name in os.environ if name.startswith(("EMBEDDING_", "EMBED_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


class Command:
    """`embed-consumer ARGUMENTS` in this process: its exit code, stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["embed-consumer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err


def write(**content: object) -> None:
    Path("embed-consumer.yaml").write_text(yaml.safe_dump({"embedding": PINNED, "tables": [TABLE], **content}))


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_help_cuts_no_name_off(command: Command, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    code, out, _ = command("stack", "up", "--help")
    assert code == DONE
    assert {"--postgres-port", "EMBED_STACK_POSTGRES_PORT", "EMBED_STACK_REGISTRY_PORT"} <= set(
        re.findall(r"[\w-]+", out)
    )
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= int(width)


@pytest.mark.parametrize(
    "arguments",
    [
        *("status", "search lamp", "doctor", "migrate --plan", "--group prod", "failed list", "failed retry --all"),
        *("offsets show", "replay --topic t --from-beginning", "config validate"),
    ],
)
def test_without_any_settings_it_says_so_and_what_to_do(command: Command, arguments: str) -> None:
    code, out, err = command(*arguments.split())
    assert (code, out) == (USAGE, "")
    assert "No settings file was found." in err
    assert "--config" in err
    assert "stack up" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--from-offset 5 --to-offset 2", "--to-offset 2 is not above --from-offset 5"),
        ("--from-offset 5 --to-offset 5", "empty"),
        ("--from-offset -1", "--from-offset"),
        ("--from-beginning --to-offset -1", "--to-offset"),
        ("--from-offset 99999999999999999999", "--from-offset"),
        ("--from-beginning --partition -1", "--partition"),
        ("", "exactly one"),
        ("--from-beginning --from-offset 0", "exactly one"),
        ("--from-datetime 2026-01-01 --from-offset 0", "exactly one"),
        ("--from-datetime yesterday", "no date"),
        ("--from-datetime=", "no date"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(command: Command, arguments: str, told: str) -> None:
    write()
    code, out, err = command("replay", "--topic", TABLE["topic"], *arguments.split(), "--execute")
    assert (code, out) == (USAGE, "")
    assert told in err


def test_a_source_that_the_settings_lack_is_named_with_the_nearest(command: Command) -> None:
    write(tables=[TABLE, {"topic": "shop.public.reviews", "text": "x"}])
    code, out, err = command("search", "lamp", "--source", "shop.public.product")
    assert (code, out) == (USAGE, "")
    assert "shop.public.product." in err
    assert "The nearest one is shop.public.products." in err
    code, _, err = command("search", "lamp", "--source", "x")
    assert code == USAGE
    assert "shop.public.products, shop.public.reviews" in err


def test_validate_says_what_run_would_refuse_and_all_of_it_at_once(command: Command) -> None:
    write()
    assert command("config", "validate")[0] == DONE
    write(
        embedding={"model": "acme/model"},
        kafka={"properties": {"sasl.mechnism": "canary"}},
        tables=[{**TABLE, "text": "{{ title"}, {**TABLE, "topic": "a.b.c", "columns": {"price": "nmeric"}}],
    )
    code, out, err = command("config", "validate")
    assert (code, out) == (USAGE, "")
    for told in ("full commit of acme/model", "sasl.mechnism", "shop.public.products", "'nmeric'"):
        assert told in err
    write(tables=[])
    code, _, err = command("config", "validate")
    assert code == USAGE
    assert "name no table" in err


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"sasl.passwrd": "canary"}, "no such property; the nearest one is sasl.password"),
        ({"nonsense": "canary"}, "no such property."),
        ({"session.timeout.ms": "canary"}, "session.timeout.ms"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanisms": "canary"}, "sasl.mechanisms"),
    ],
)
def test_a_property_that_the_kafka_client_refuses_is_named(
    command: Command, properties: dict[str, str], told: str
) -> None:
    write(kafka={"properties": properties})
    code, _, err = command("config", "validate")
    assert code == USAGE
    assert told in err
    assert "kafka.properties" in err
    assert "canary" not in err


@pytest.mark.parametrize("name", OFTEN_SET)
def test_a_property_that_is_offered_exists(name: str) -> None:
    refused = ""
    try:
        Broker("", {name: "?"}).check_properties()
    except Stop as stop:
        refused = str(stop)
    assert "no such property" not in refused, "at most for its value"


def test_a_folder_without_a_stack_and_one_that_can_have_none(command: Command) -> None:
    code, _, err = command("stack", "down", "--home", "nowhere")
    assert (code, err) == (DONE, "There is no stack in nowhere.\n")
    code, out, err = command("stack", "status", "--home", "nowhere")
    assert (code, out) == (UNREACHABLE, "")
    assert "no stack in nowhere" in err
    Path("file").touch()
    for home in ("file", "file/inside", "one,two"):
        code, out, err = command("stack", "up", "--home", home)
        assert (code, out) == (USAGE, "")
        assert "cannot be the folder of a stack" in err
        assert command("stack", "status", "--home", home)[0] == UNREACHABLE
        assert command("stack", "down", "--home", home)[0] == DONE
    code, _, err = command("demo", "--home", "file")
    assert code == USAGE
    assert "file is not a folder of the demo" in err


@pytest.mark.parametrize("port", ["0", "-3", "65536", "99999"])
def test_a_port_that_is_none_is_refused_before_anything_is_made(command: Command, port: str) -> None:
    code, out, err = command("stack", "up", "--kafka-port", port)
    assert (code, out) == (USAGE, "")
    assert "--kafka-port" in err
    assert not list(Path.cwd().iterdir())


def test_output_without_room_is_a_sentence() -> None:
    program = [sys.executable, "-c", "from consumer.cli import main; main()", "config", "schema"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == FAILED
    assert done.stderr == "What was to be written has no room.\nThe system says: No space left on device.\n"


def test_a_template_with_a_mistake_is_told_in_full(command: Command) -> None:
    write(tables=[{**TABLE, "when": "{{ status = 'published' }}"}])
    code, _, err = command("config", "validate")
    assert code == USAGE
    assert "Line 1: expected 'end of print statement', got '='." in err


def test_what_is_said_beside_a_progress_bar_has_lines_of_its_own() -> None:
    program = (
        "import sys; from consumer.cli.output import progress, remark\n"
        "with progress('replay', 10) as advance:\n"
        "    advance(5); remark('a remark'); print('a line of the log', file=sys.stderr); advance(5)\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env={**os.environ, "TERM": "xterm"}) as child:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        assert child.wait() == 0
    os.close(ours)
    for said in (b"a remark", b"a line of the log"):
        before, _, after = shown.partition(said)
        assert before.endswith(b"\x1b[2K"), before[-40:]  # the bar's line has been cleared
        assert after.startswith(b"\r\n")


def test_without_the_extra_of_the_local_stack_it_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['psutil'] = None; from consumer.cli import main; main()"
    command = [sys.executable, "-c", program, "stack", "up"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == FAILED
    assert "pip install '.[local]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_progress_that_begins_long_after_its_start_has_a_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model of a replay may take longer to load than lines are apart."""
    monkeypatch.setattr(output, "LINE_EVERY_SECONDS", 0.0)
    with output.progress("replay", 4) as advance:
        advance(0)
        advance(2)
    assert "2 of 4 events" in capsys.readouterr().err
