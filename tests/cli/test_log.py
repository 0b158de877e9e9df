"""The filter lets through what it says, and a line is one line whatever a guest puts into it."""

from __future__ import annotations

import pytest

from donjon.errors import UsageError
from donjon.log import DEBUG, ERROR, INFO, LEVELS, OFF, QUIET, TRACE, WARN, Logger, line, parse_filter, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {"donjon": INFO}, id="nothing is info"),
        pytest.param("off", {"donjon": OFF}, id="off"),
        pytest.param("WARN", {"donjon": WARN}, id="levels have any case"),
        pytest.param("debug,", {"donjon": DEBUG}, id="empty parts count for nothing"),
        pytest.param(
            "donjon=debug,donjon.wasi=trace", {"donjon": DEBUG, "donjon.wasi": TRACE}, id="a level for each part"
        ),
        pytest.param("donjon.tls", {"donjon": INFO, "donjon.tls": TRACE}, id="a part alone means all of it"),
        pytest.param(" warn , donjon.tls = debug ", {"donjon": WARN, "donjon.tls": DEBUG}, id="spaces do not count"),
        pytest.param("error,info", {"donjon": INFO}, id="the last of two for the same counts"),
        pytest.param("enarx=debug", {"donjon": DEBUG}, id="enarx is donjon"),
        pytest.param(
            "enarx_exec_wasmtime::net=trace", {"donjon": INFO, "donjon.wasm.net": TRACE}, id="Enarx's crates are parts"
        ),
    ],
)
def test_filter_means(text: str, expected: dict[str, int]) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize(
    ("text", "got"),
    [
        pytest.param("inof", "inof", id="a level misspelt"),
        pytest.param("info,donjon=loud", "donjon=loud", id="a level that is none"),
        pytest.param("hyper=debug", "hyper=debug", id="a part that is not ours"),
        pytest.param("donjonx=debug", "donjonx=debug", id="a part that only begins like ours"),
        pytest.param("=debug", "=debug", id="no part"),
        pytest.param("donjon=", "donjon=", id="no level"),
        pytest.param("donjon[span]=debug", "donjon[span]=debug", id="spans, which we do not have"),
    ],
)
def test_filter_refuses(text: str, got: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_filter(text)
    assert caught.value.message == (
        f'log filter: expected off, error, warn, info, debug, trace or donjon.PART=LEVEL, got "{got}"'
    )


@pytest.mark.parametrize(
    ("levels", "target", "passes"),
    [
        pytest.param("info", "donjon", INFO, id="one level for everything"),
        pytest.param("info", "donjon.wasi", INFO, id="parts follow the whole"),
        pytest.param("off", "donjon.wasi", OFF, id="off lets nothing through, not even errors"),
        pytest.param("warn,donjon.wasi=trace", "donjon.wasi", TRACE, id="a part has its own level"),
        pytest.param("warn,donjon.wasi=trace", "donjon.wasi.p1", TRACE, id="so has what is below it"),
        pytest.param("warn,donjon.wasi=trace", "donjon.wasi2", WARN, id="but not what only begins alike"),
        pytest.param(
            "donjon.wasi=trace,donjon.wasi.p1=error", "donjon.wasi.p1.fd", ERROR, id="the longest that fits decides"
        ),
        pytest.param("debug", "elsewhere", DEBUG, id="a target of another tree follows the whole"),
    ],
)
def test_passes(levels: str, target: str, passes: int) -> None:
    seen: list[tuple[int, str, str]] = []
    log = Logger(lambda *record: seen.append(record), levels)
    for method in (log.error, log.warn, log.info, log.debug, log.trace):
        method("m", target)
    assert seen == [(level, target, "m") for level in range(ERROR, passes + 1)]
    assert [log.enabled(level, target) for level in range(ERROR, TRACE + 1)] == [
        level <= passes for level in range(1, 6)
    ]


def test_targets_that_a_guest_invents_are_not_all_remembered() -> None:
    logger = Logger(lambda *_: None)
    for number in range(5000):
        logger.log(INFO, "", f"donjon.{number}")
    assert len(logger._known) <= 1000
    assert logger.enabled(INFO, "donjon.5000")
    assert not logger.enabled(DEBUG, "donjon.5001")


def test_without_a_sink_nothing_is_enabled() -> None:
    QUIET.error("dropped")
    assert not QUIET.enabled(ERROR)
    assert not Logger(None, "trace").enabled(ERROR, "donjon.wasi")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        pytest.param(ERROR, "donjon: error: m\n", id="error"),
        pytest.param(WARN, "donjon: warning: m\n", id="warn"),
        pytest.param(INFO, "donjon: m\n", id="info"),
        pytest.param(DEBUG, "donjon: debug: [donjon.wasi] m\n", id="debug names its target"),
        pytest.param(TRACE, "donjon: trace: [donjon.wasi] m\n", id="trace names its target"),
    ],
)
def test_line(level: int, expected: str) -> None:
    assert line(level, "donjon.wasi", "m") == expected
    assert LEVELS[level] == {WARN: "warn", INFO: "info"}.get(level, LEVELS[level])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("größe ✔ 大", "größe ✔ 大", id="letters of all scripts stay"),
        pytest.param("a\nb\r\tc", "a\\nb\\r\\tc", id="line breaks and tabs"),
        pytest.param("\x1b[2J\x07", "\\x1b[2J\\x07", id="terminal controls"),
        pytest.param("\x9b31m\x7f", "\\x9b31m\\x7f", id="terminal controls of eight bits"),
        pytest.param("a\u202eb\u2028", "a\\u202eb\\u2028", id="reversed writing and line separators"),
        pytest.param("a\udcffb", "a\\xffb", id="bytes that are not UTF-8"),
        pytest.param("\ud800", "\\ud800", id="half of a surrogate pair"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert printable(text) == expected
    seen: list[str] = []
    Logger(lambda _level, _target, message: seen.append(message)).info(text)
    assert seen == [expected]
