"""Right or wrong: what must hold after changes that often go wrong. Each case says in one line what it saw."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Mapping

from benchmarks.peers.trial import TooLate, Trial, rows

FIRST, COUNT = 100, 100
GRACE, PATIENCE = 2.0, 20.0  # s after a sentinel is through; s until what is not yet right is called wrong
BIG = 50  # id of the row whose text Postgres stores out of line
POISON = {  # none of them may stop what comes after; the texts among them must be found
    60: None,
    61: "",
    62: " \n\t ",
    63: "poison {{ 7 * 7 }} {% raw %} ${body} {body} %s %(x)d $$chunk \\u0000 \\x00 <|endoftext|> [SEP] [PAD]",
    64: "poison " + "ａ̈\u200d\ufeff\ufffe🦆" * 40,
    65: "poison " + "x" * 20_000,
}
Case = Callable[[Trial], str]


class Wrong(Exception):
    """What is stored is not what it should be."""


def judge(world: Trial) -> Mapping[str, str]:
    """Each case's verdict: `right` or `wrong: …`. After a case that it did not survive it is started again."""
    world.warm()
    world.insert(rows("first", range(FIRST, FIRST + COUNT)))
    world.insert([(BIG, _big())])
    world.until(lambda: world.found("first") == COUNT and world.found("big") == 1, 180)
    verdicts = {}
    for number, (name, case) in enumerate(CASES.items()):
        try:
            verdicts[name] = "right" + case(world)
        except (Wrong, TooLate) as wrong:
            verdicts[name] = f"wrong: {wrong}"
        if not _lives(world, 1_000 + number):
            verdicts[name] += "; nothing after it arrives until it is started again"
            world.contender.kill()
            world.contender.start()
            if not _lives(world, 2_000 + number):
                verdicts["rest"] = "not judged: nothing arrives any more, also after a restart"
                break
    return verdicts


def _delete(world: Trial) -> str:
    world.run("DELETE FROM {} WHERE number >= %s AND number < %s", [FIRST, FIRST + 10])
    return _settled(
        world, 200, lambda found: not found.keys() & set(range(FIRST, FIRST + 10)), "deleted rows are found"
    )


def _toast(world: Trial) -> str:
    before = sorted(world.contents()[BIG])
    embedded = world.quiet()
    world.run("UPDATE {} SET views = views + 1 WHERE number = %s", [BIG])
    _settled(
        world, 201, lambda found: sorted(found.get(BIG, [])) == before, "the unchanged big text is stored otherwise"
    )
    again = world.quiet() - embedded - 1
    return f" (embedded again: {again})" if again else ""


def _key(world: Trial) -> str:
    old, new = FIRST + 20, FIRST + 5_020
    world.run("UPDATE {} SET number = %s WHERE number = %s", [new, old])

    def moved(found: Mapping[int, list[str]]) -> bool:
        return old not in found and _is(found.get(new), rows("first", [old])[0][1])

    return _settled(world, 202, moved, "the row is not found under its new key alone")


def _last(world: Trial) -> str:
    """Several changes of a row in one transaction: the last one counts."""
    with_edits = rows("last", [FIRST + 30])
    world.edit([(FIRST + 30, "neither this"), (FIRST + 30, None), *with_edits])
    return _settled(
        world, 203, lambda found: _is(found.get(FIRST + 30), with_edits[0][1]), "another text than the last is stored"
    )


def _to_null(world: Trial) -> str:
    """A text that becomes NULL leaves the index, and its vector too."""
    row = FIRST + 40
    former = world.vectors_of(row)
    world.run("UPDATE {} SET body = NULL WHERE number = %s", [row])
    _settled(world, 204, lambda found: not any(found.get(row, [])), "the former text is still found")
    if any(vector in former for vector in world.vectors_of(row)):
        raise Wrong("the row is still found by the vector of its former text")
    return ""


def _poison(world: Trial) -> str:
    for number, body in POISON.items():
        world.insert([(number, body)])

    def through(found: Mapping[int, list[str]]) -> bool:
        exact = all(found.get(number) == [POISON[number]] for number in (63, 64))
        return exact and bool(found.get(65))

    return _settled(world, 205, through, "a text with odd characters or of 20,000 letters is missing or altered")


def _kill(world: Trial) -> str:
    """SIGKILL in the middle of a load; edits and deletes while it is dead."""
    numbers = range(10_000, 10_300)
    embedded = world.quiet()
    world.insert(rows("kill", numbers))
    world.until(lambda: world.found("kill") >= 20 or world.contender.embedded() >= embedded + 20, 120)
    world.contender.kill()
    world.edit(rows("while dead", numbers[:10]))
    world.run("DELETE FROM {} WHERE number >= %s", [numbers[290]])
    world.contender.start()
    wanted = dict(rows("kill", numbers[10:290]) + rows("while dead", numbers[:10]))

    def whole(found: Mapping[int, list[str]]) -> bool:
        there = {number for number in found if number >= numbers[0]}
        return there == wanted.keys() and all(_is(found[number], text) for number, text in wanted.items())

    try:
        world.until(lambda: whole(world.contents()), 120)
    except TooLate:
        raise Wrong(_difference(world.contents(), wanted, numbers[0])) from None
    return ""


def _truncate(world: Trial) -> str:
    world.run("TRUNCATE {}")
    return _settled(world, 206, lambda found: found.keys() == {206}, "rows are found that are no longer there")


CASES: Mapping[str, Case] = {
    "delete": _delete,
    "TOAST edit": _toast,
    "key change": _key,
    "last of several": _last,
    "text to NULL": _to_null,
    "poison rows": _poison,
    "kill -9": _kill,
    "truncate": _truncate,
}


def _settled(world: Trial, sentinel: int, right: Callable[[Mapping[int, list[str]]], bool], otherwise: str) -> str:
    """Right if it is so once everything written before has had its turn."""
    try:
        world.sentinel(sentinel)
    except TooLate as late:
        raise Wrong(f"a row written after it is not searchable, {late}") from None
    time.sleep(GRACE)
    try:
        world.until(lambda: right(world.contents()), PATIENCE)
    except TooLate as late:
        raise Wrong(f"{otherwise} ({late})") from None
    return ""


def _is(chunks: list[str] | None, text: str) -> bool:
    """Whether the chunks are the text, once: parts of it, as long as it is but for white space at the cuts."""
    length = sum(map(len, chunks or []))
    return 0.97 * len(text) <= length <= len(text) and all(chunk in text for chunk in chunks or [])


def _lives(world: Trial, number: int) -> bool:
    try:
        world.sentinel(number, 60)
    except TooLate:
        return False
    return True


def _difference(found: Mapping[int, list[str]], wanted: Mapping[int, str], first: int) -> str:
    missing = sum(number not in found for number in wanted)
    gone = sum(number >= first and number not in wanted for number in found)
    stale = sum(number in found and not _is(found[number], text) for number, text in wanted.items())
    return f"of {len(wanted)} rows {missing} are missing and {stale} are stale or double; {gone} deleted ones are found"


def _big() -> str:
    """A text that Postgres cannot compress into its page, so that an update of another column does not send it."""
    letters = random.Random(7)
    words = ("".join(letters.choices(string.ascii_lowercase, k=letters.randint(3, 11))) for _ in range(1_500))
    return "big " + ". ".join(words)
