"""The pipe: both ends meet in memory, fed whole, byte by byte, cut at random, and with what is no TLS at all."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import BugError, UsageError, VerifyError
from donjon.identity import Identity, self_signed
from donjon.tls import FEED, RECORD, STARVED, TlsError, TlsPipe, Truncated, Unproven, client_context, server_context
from donjon.tls.pipe import PATHS, PREFETCH, Event, State
from tests.tls.ends import Ends, call, drain, pieces, serve, shake

STEPS = pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "byte by byte", "by sevens"])
few = settings(max_examples=60, deadline=None)


def room(size: int = 70_000) -> memoryview:
    return memoryview(bytearray(size))


# Handshake


@STEPS
def test_both_ends_agree_and_exchange_messages(ends: Ends, step: int | None) -> None:
    server, client = ends.joined(step)
    for sender, receiver in ((client, server), (server, client)):
        for piece in pieces(sender.seal(b"hello"), step):
            receiver.feed(piece)
        assert drain(receiver) == (b"hello", STARVED)
    assert server.handshake() is client.handshake() is True
    assert server.suite == client.suite == "TLS_AES_256_GCM_SHA384"
    assert client.peer_certificate == ends.identity.certificate
    assert server.peer_certificate is None, "Enarx asks for no client certificate"


def test_server_sends_no_session_tickets(ends: Ends) -> None:
    server, client = ends.fresh()
    client.handshake()
    server.feed(client.take())
    server.handshake()
    client.feed(server.take())
    assert client.handshake()
    server.feed(client.take())
    assert server.handshake()
    assert server.take() == b""


def test_messages_of_any_size_arrive(ends: Ends) -> None:
    server, client = ends.joined()
    for size in (1, 64, RECORD - 1, RECORD, RECORD + 1, 65_536, 1_000_000):
        sent = bytes(range(251)) * (size // 251 + 1)
        sent = sent[:size]
        received = b""
        for piece in pieces(client.seal(sent), FEED):
            server.feed(piece)
            received += drain(server)[0]
        assert received == sent
    assert client.backlog == 0
    assert client.write(b"abc") == 3
    assert client.backlog == 3 + 22


def test_an_empty_write_sends_nothing(ends: Ends) -> None:
    _, client = ends.joined()
    assert client.write(b"") == 0
    assert client.seal(b"") == b""


def test_one_read_gathers_several_full_records(ends: Ends) -> None:
    server, client = ends.joined()
    server.feed(client.seal(b"x" * 65_536))
    assert server.read_into(room()) == 65_536


# Ready or not


def test_nothing_is_ready_before_a_record_is_whole(ends: Ends) -> None:
    server, client = ends.joined()
    record = client.seal(b"hello")
    for byte in record[:-1]:
        server.feed(bytes([byte]))
        assert not server.prefetch()
        assert server.read_into(room()) == STARVED
        assert server.peek_into(room()) == STARVED
        assert server.buffered == 0
    server.feed(record[-1:])
    assert server.prefetch()
    assert server.prefetch()
    assert server.buffered == 5
    assert drain(server) == (b"hello", STARVED)
    assert not server.prefetch()


def test_session_tickets_from_a_server_are_not_data(ends: Ends, tmp_path_factory: pytest.TempPathFactory) -> None:
    talkative = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = tmp_path_factory.mktemp("tickets")
    (files / "chain").write_bytes(ends.identity.chain_pem())
    (files / "key").write_bytes(ends.identity.key_pem())
    talkative.load_cert_chain(files / "chain", files / "key")
    assert talkative.num_tickets == 2
    server, client = (
        serve(talkative),
        call(ends.client),
    )
    client.handshake()
    server.feed(client.take())
    server.handshake()
    client.feed(server.take())
    assert client.handshake()
    server.feed(client.take())
    assert server.handshake()
    tickets = server.take()
    assert len(tickets) > 200
    client.feed(tickets)
    assert not client.prefetch()
    assert client.read_into(room()) == STARVED
    client.feed(server.seal(b"data"))
    assert client.prefetch()
    assert drain(client) == (b"data", STARVED)


@pytest.mark.parametrize("size", [5, PREFETCH, PREFETCH + 1, RECORD, 40_000])
def test_peek_leaves_the_bytes_to_be_read(ends: Ends, size: int) -> None:
    server, client = ends.joined()
    sent = bytes(range(256)) * 200
    server.feed(client.seal(sent[:size]))
    view = room()
    seen = server.peek_into(view)
    assert seen == min(size, RECORD)
    assert view[:seen] == sent[:seen]
    assert server.peek_into(room(2)) == 2
    assert server.read_into(room(2)) == 2
    assert drain(server) == (sent[2:size], STARVED)


def test_empty_view_reads_nothing_and_is_no_end(ends: Ends) -> None:
    server, client = ends.joined()
    server.feed(client.seal(b"hello"))
    assert server.read_into(room(0)) == 0
    assert not server.eof
    assert server.prefetch()
    assert server.read_into(room(0)) == 0
    assert drain(server) == (b"hello", STARVED)


@few
@given(data=st.data())
def test_any_chunking_and_any_order_of_calls_gives_the_same_stream(ends: Ends, data: st.DataObject) -> None:
    server, client = ends.joined()
    sizes = st.one_of(st.integers(1, 300), st.integers(1, 40_000))
    messages = data.draw(st.lists(sizes.map(lambda size: bytes([size % 256]) * size), max_size=6))
    wire = b"".join(map(client.seal, messages))
    client.close_notify()
    wire += client.take()
    received = b""
    while wire:
        cut = data.draw(sizes)
        server.feed(wire[:cut])
        wire = wire[cut:]
        for action in data.draw(st.lists(st.sampled_from("rpk"), max_size=4)):
            view = room(data.draw(sizes))
            if action == "r":
                received += view[: max(0, server.read_into(view))]
            elif action == "p":
                ready = server.prefetch()
                assert ready == (server.peek_into(view) != STARVED)
            else:
                size = max(0, server.peek_into(view))
                ahead = room(size)
                assert not size or (server.read_into(ahead) == size and ahead == view[:size])
                received += ahead
    rest, end = drain(server)
    assert received + rest == b"".join(messages)
    assert end == 0
    assert server.eof


# Ends


@STEPS
@pytest.mark.parametrize("closer", ["server", "client"])
def test_close_notify_is_a_clean_end(ends: Ends, closer: str, step: int | None) -> None:
    server, client = ends.joined()
    ours, theirs = (server, client) if closer == "server" else (client, server)
    ours.write(b"last words")
    ours.close_notify()
    ours.close_notify()
    for piece in pieces(ours.take(), step):
        theirs.feed(piece)
    theirs.feed_eof()
    assert theirs.prefetch()
    assert drain(theirs) == (b"last words", 0)
    assert drain(theirs) == (b"", 0)
    assert theirs.prefetch()
    assert theirs.peek_into(room()) == 0
    assert theirs.eof
    assert theirs.state is State.PEER_CLOSED
    theirs.close_notify()
    assert theirs.closed
    ours.feed(theirs.take())
    assert drain(ours) == (b"", 0)
    assert ours.closed
    assert ours.take() == b"", "close_notify is sent once"


@STEPS
def test_a_peer_that_has_closed_can_still_be_written_to(ends: Ends, step: int | None) -> None:
    server, client = ends.joined()
    client.close_notify()
    server.feed(client.take())
    assert drain(server) == (b"", 0)
    for piece in pieces(server.seal(b"answer"), step):
        client.feed(piece)
    assert drain(client) == (b"answer", STARVED)


@STEPS
@pytest.mark.parametrize("fed", [0, 1, 5, 20, 27, 28, 60, 20_000, 10**6])
def test_half_close_loses_nothing_of_what_the_peer_sends(ends: Ends, fed: int, step: int | None) -> None:
    server, client = ends.joined()
    wire = client.seal(b"first") + client.seal(b"second" * 5_000)
    server.feed(wire[:fed])
    server.close_notify()
    client.feed(server.take())
    assert drain(client) == (b"", 0)
    wire = wire[fed:] + client.seal(b"third")
    client.close_notify()
    received = b""
    for piece in pieces(wire + client.take(), step):
        server.feed(piece)
        if step != 1 or server.prefetch():
            received += drain(server)[0]
    server.feed_eof()
    rest, end = drain(server)
    assert received + rest == b"first" + b"second" * 5_000 + b"third"
    assert end == 0
    assert server.closed


def test_half_close_in_the_middle_of_reading_a_record_loses_nothing(ends: Ends) -> None:
    sent = bytes(range(256)) * 64
    for ahead in (0, 1, 6_000):
        server, client = ends.joined()
        server.feed(client.seal(sent) + client.seal(b"more"))
        view = room(100)
        assert server.read_into(view) == 100
        assert not ahead or server.peek_into(room(ahead)) == ahead
        server.close_notify()
        assert drain(server) == (sent[100:] + b"more", STARVED)


def test_half_close_after_tcp_ended_still_tells_data_from_a_cut(ends: Ends) -> None:
    server, client = ends.joined()
    server.feed(client.seal(b"data"))
    server.feed_eof()
    server.close_notify()
    assert server.read_into(room()) == 4
    with pytest.raises(Truncated):
        server.read_into(room())


def test_half_close_with_a_damaged_record_ahead_fails_at_the_next_read(ends: Ends) -> None:
    server, client = ends.joined()
    wire = bytearray(client.seal(b"good") + client.seal(b"bad"))
    wire[-1] ^= 1
    server.feed(wire)
    server.close_notify()
    assert server.read_into(room()) == 4
    with pytest.raises(TlsError, match="damaged"):
        server.read_into(room())
    server.close_notify()
    assert server.closed


def test_writing_after_close_notify_is_the_callers_mistake(ends: Ends) -> None:
    server, client = ends.joined()
    server.close_notify()
    for write in (server.write, server.seal):
        with pytest.raises(UsageError, match="write after close_notify"):
            write(b"x")
    server.feed(client.seal(b"still read"))
    assert drain(server) == (b"still read", STARVED)


def test_closing_during_the_handshake_sends_nothing(ends: Ends) -> None:
    server, client = ends.fresh()
    with pytest.raises(UsageError, match="before the TLS handshake is complete"):
        client.write(b"x")
    server.close_notify()
    assert server.closed
    assert server.take() == b""
    assert not server.handshaken


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 20, 26])
def test_tcp_that_ends_without_close_notify_is_a_cut(ends: Ends, cut: int) -> None:
    server, client = ends.joined()
    whole, broken = client.seal(b"whole"), client.seal(b"lost!")
    assert len(broken) == 27
    server.feed(whole + broken[:cut])
    server.feed_eof()
    assert server.prefetch()
    view = room()
    assert server.read_into(view) == 5
    assert server.prefetch(), "the error is ready"
    for read in (server.read_into, server.peek_into, server.read_into):
        with pytest.raises(Truncated, match="cut short: TCP ended without close_notify"):
            read(view)
    assert server.closed
    assert not server.eof


@pytest.mark.parametrize("cut", [0, 1, 5, 100, -1])
@pytest.mark.parametrize("victim", ["server", "client"])
def test_tcp_that_ends_during_the_handshake_is_a_cut(ends: Ends, cut: int, victim: str) -> None:
    server, client = ends.fresh()
    client.handshake()
    flight, pipe = client.take(), server
    if victim == "client":
        server.feed(flight)
        server.handshake()
        flight, pipe = server.take(), client
    pipe.feed(flight[:cut])
    pipe.handshake()
    pipe.feed_eof()
    for _ in range(2):
        with pytest.raises(Truncated, match="closed the connection during the TLS handshake"):
            pipe.handshake()


@pytest.mark.parametrize("place", range(27))
def test_an_altered_record_is_an_error_after_the_data_before_it(ends: Ends, place: int) -> None:
    server, client = ends.joined()
    good, bad = client.seal(b"whole"), bytearray(client.seal(b"bad!!"))
    bad[place] ^= 0x01
    server.feed(good + bad + client.seal(b"after"))
    assert server.read_into(room()) == 5
    if place == 3:  # a much longer record: more of it is waited for
        assert drain(server) == (b"", STARVED)
        server.feed_eof()
    with pytest.raises(TlsError) as caught:
        drain(server)
    assert server.closed
    if place > 5:
        assert "a record is damaged or was altered on its way" in str(caught.value)
        client.feed(server.take())
        with pytest.raises(TlsError, match="peer says that a record is damaged"):
            drain(client)
    with pytest.raises(TlsError):
        server.write(b"x")


# The states


@pytest.mark.parametrize(("state", "event"), [p for p in product(State, Event) if p[1] not in PATHS[p[0]]])
def test_what_the_table_lacks_is_refused(ends: Ends, state: State, event: Event) -> None:
    pipe = ends.fresh()[0]
    pipe.state = state
    with pytest.raises(BugError, match=f"{event.name} cannot happen in state {state.name}"):
        pipe._move(event)
    assert pipe.state is state


def test_every_state_can_be_reached() -> None:
    assert {end for paths in PATHS.values() for end in paths.values()} | {State.HANDSHAKE} == set(State)


def test_a_failed_pipe_holds_no_ones_memory(ends: Ends) -> None:
    class Memory(bytearray):
        pass

    server, _ = ends.joined()
    server.feed_eof()
    memory = Memory(100)
    alive = weakref.ref(memory)
    with pytest.raises(Truncated) as caught:
        server.read_into(memoryview(memory))
    del caught, memory
    gc.collect()
    assert alive() is None


# Peers that are not what they should be


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "peer spoke plain HTTP to a TLS port"),
        (b"POST / HTTP/1.0\r\n", "peer spoke plain HTTP to a TLS port"),
        (b"hello\n", "peer spoke no TLS: expected a record header (16 03), got 68 65 6c 6c 6f"),
        (b"S", "peer spoke no TLS: expected a record header (16 03), got 53"),
        (b"\x80\x2e\x01\x03\x01", "peer spoke no TLS: expected a record header (16 03), got 80 2e 01 03 01"),
        (b"\x17\x03\x03\x00\x10", "peer spoke no TLS: expected a record header (16 03), got 17 03 03 00 10"),
        (b"\x16\x07\x00\x00\x10", "peer spoke no TLS: expected a record header (16 03), got something else"),
    ],
)
def test_a_client_without_tls_is_refused_at_once(ends: Ends, said: bytes, expected: str) -> None:
    server, _ = ends.fresh()
    assert not server.handshake(), "a silent client is waited for"
    server.feed(said)
    for _ in range(2):
        with pytest.raises(TlsError) as caught:
            server.handshake()
        assert str(caught.value) == expected
        assert isinstance(caught.value, VerifyError)
    assert server.closed


def test_a_server_without_tls_is_named(ends: Ends) -> None:
    client = call(ends.client, peer="localhost:80")
    client.handshake()
    client.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(TlsError, match=r"^peer spoke plain HTTP instead of TLS \(peer localhost:80\)$"):
        client.handshake()


def test_a_client_of_tls_1_2_is_refused(ends: Ends) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = (
        serve(ends.server),
        call(old),
    )
    client.handshake()
    server.feed(client.take())
    with pytest.raises(TlsError, match=r"^peer does not offer TLS 1\.3$"):
        server.handshake()
    client.feed(server.take())
    with pytest.raises(TlsError):
        client.handshake()


def test_a_server_of_tls_1_2_is_refused(ends: Ends) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = (
        serve(old),
        call(ends.client),
    )
    client.handshake()
    server.feed(client.take())
    with pytest.raises(TlsError):
        server.handshake()
    client.feed(server.take())
    with pytest.raises(TlsError, match=r"^peer does not accept TLS 1\.3 \(peer localhost\)$"):
        client.handshake()


Trusting = Callable[[Identity], ssl.SSLContext]


def refusal(server: TlsPipe, client: TlsPipe) -> TlsError:
    """How the client refuses the server; the server must hear of it."""
    with pytest.raises(TlsError) as caught:
        shake(server, client)
    server.feed(client.take())
    with pytest.raises(TlsError, match=r"^peer refused: "):
        server.handshake()
    return caught.value


@pytest.mark.parametrize("name", ["localhost", "keep.example", "KEEP.example.", "127.0.0.1", "::1", "10.0.0.7"])
def test_names_and_addresses_of_the_certificate_are_accepted(ends: Ends, name: str) -> None:
    shake(*ends.fresh(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("elsewhere.example", "hostname mismatch, certificate is not valid for 'elsewhere.example'"),
        ("10.0.0.8", "IP address mismatch, certificate is not valid for '10.0.0.8'"),
        ("fe80::1%eth0", "IP address mismatch, certificate is not valid for 'fe80::1'"),
    ],
)
def test_another_name_or_address_is_refused(ends: Ends, name: str, expected: str) -> None:
    error = refusal(*ends.fresh(name))
    expected = expected[0].lower() + expected[1:]
    assert str(error) == f"certificate verify failed: {expected} (peer {name})"
    assert error.hint


def test_an_expired_certificate_is_refused(ends: Ends, trusting: Trusting) -> None:
    from datetime import UTC, datetime

    from donjon.tls import server_context

    old = self_signed(now=datetime(2020, 1, 1, tzinfo=UTC))
    error = refusal(
        serve(server_context(old)),
        call(trusting(old), peer="localhost:443"),
    )
    assert str(error) == "certificate verify failed: certificate has expired (peer localhost:443)"


def test_an_unknown_self_signed_certificate_is_refused(ends: Ends, trusting: Trusting) -> None:
    error = refusal(
        serve(ends.server),
        call(trusting(self_signed())),
    )
    assert "certificate verify failed: self" in str(error)
    assert "SSL_CERT_FILE" in (error.hint or "")


def test_a_pinned_certificate_is_accepted_by_a_strict_client(ends: Ends, trusting: Trusting) -> None:
    strict = trusting(ends.identity)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    shake(serve(ends.server), call(strict))


@pytest.mark.parametrize("name", [None, "", ".", "a" * 300, "\udcff"])
def test_a_client_needs_a_name_to_verify(ends: Ends, name: str | None) -> None:
    with pytest.raises(UsageError, match="cannot verify a peer"):
        call(ends.client, name)


# Fuzzing. Invariant: whatever is fed, a pipe waits, gives what the peer sealed, or raises TlsError.

noise = st.one_of(
    st.binary(max_size=2_000),
    st.binary(max_size=500).map(lambda tail: b"\x16\x03\x01" + len(tail).to_bytes(2, "big") + tail),
    st.binary(max_size=500).map(lambda tail: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + tail),
    st.binary(max_size=50).map(lambda tail: b"\x15\x03\x03\x00\x02" + tail),
)


@settings(max_examples=300, deadline=None)
@given(chunks=st.lists(noise, max_size=3), server_side=st.booleans(), end=st.booleans())
def test_noise_instead_of_a_handshake_is_waited_for_or_refused(
    ends: Ends, chunks: list[bytes], server_side: bool, end: bool
) -> None:
    pipe = ends.fresh()[0 if server_side else 1]
    pipe.handshake()
    with suppress(TlsError):
        for chunk in chunks:
            pipe.feed(chunk)
            assert not pipe.handshake()
    if end:
        pipe.feed_eof()
        with pytest.raises(TlsError) as caught:
            pipe.handshake()
        assert len(str(caught.value)) < 200
        assert pipe.closed


def what_tls_protects(flight: bytes | bytearray) -> list[int]:
    """Where it matters what stands there: not in the version of a record that is sent in the clear (RFC 8446, 5.1)."""
    places, start = list(range(len(flight))), 0
    while start < len(flight):
        if flight[start] != 23:
            places = [place for place in places if place not in (start + 1, start + 2)]
        start += 5 + int.from_bytes(flight[start + 3 : start + 5], "big")
    return places


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), flight=st.integers(0, 2))
def test_a_handshake_altered_anywhere_never_completes(ends: Ends, place: float, flip: int, flight: int) -> None:
    server, client = ends.fresh()
    turns = [(client, server), (server, client), (client, server)]
    with suppress(TlsError):
        for number, (sender, receiver) in enumerate(turns):
            sender.handshake()
            data = bytearray(sender.take())
            if number == flight:
                places = what_tls_protects(data)
                data[places[int(place * len(places))]] ^= flip
            receiver.feed(data)
            receiver.handshake()
    assert {server.handshaken, client.handshaken} != {True}


@few
@given(chunks=st.lists(noise, min_size=1, max_size=3))
def test_noise_after_the_handshake_is_waited_for_or_refused(ends: Ends, chunks: list[bytes]) -> None:
    server, client = ends.joined()
    server.feed(client.seal(b"good"))
    for chunk in chunks:
        server.feed(chunk)
    view = room(4)
    assert server.read_into(view) == 4
    assert bytes(view) == b"good"
    with suppress(TlsError):
        assert drain(server) == (b"", STARVED)
    server.feed_eof()
    with pytest.raises(TlsError):  # for an end it takes a close_notify
        drain(server)
    assert server.closed


# Who the peer is


def test_each_end_has_the_chain_that_it_has_verified(ends: Ends) -> None:
    server, client = serve(server_context(ends.identity, ends.identity.chain)), call(ends.client)
    assert server.peer_chain == client.peer_chain == ()
    shake(server, client)
    assert server.peer_chain == client.peer_chain == ends.identity.chain
    assert ends.joined()[0].peer_chain == (), "nobody asked for one"


@STEPS
@pytest.mark.parametrize("by_server", [True, False])
def test_a_peer_that_is_refused_hears_it_in_an_alert(ends: Ends, step: int | None, by_server: bool) -> None:
    server, client = ends.joined()
    ours, theirs = (server, client) if by_server else (client, server)
    ours.feed(theirs.seal(b"what it sent at once" * 100))
    ours.refuse("it is not what it must be", "a hint")
    with pytest.raises(Unproven, match="it is not what it must be") as caught:
        ours.read_into(room())
    assert caught.value.hint == "a hint"
    assert ours.state is State.FAILED
    with suppress(TlsError):
        for piece in pieces(ours.take(), step):
            theirs.feed(piece)
            theirs.prefetch()
    with pytest.raises(TlsError, match=r"^peer refused: unexpected message \(so a Keep ends what it does not accept\)"):
        theirs.read_into(room())


def test_a_refusal_is_encrypted(ends: Ends) -> None:
    server, _ = ends.joined()
    server.refuse("no")
    alert = server.take()
    assert (alert[0], len(alert)) == (23, 5 + 2 + 1 + 16), "to an observer a record as any other"


def test_what_has_failed_before_or_has_not_begun_is_not_refused_once_more(ends: Ends) -> None:
    server, client = ends.fresh()
    server.refuse("too early")
    assert (server.state, server.take()) == (State.HANDSHAKE, b"")
    shake(server, client)
    server.refuse("first")
    server.take()
    server.refuse("second")
    assert server.take() == b""
    with pytest.raises(Unproven, match="first"):
        server.handshake()


def test_a_server_tells_a_peer_without_certificate_from_one_that_speaks_no_tls(ends: Ends) -> None:
    server, client = serve(server_context(ends.identity, ends.identity.chain)), call(client_context(None, ends.roots))
    with pytest.raises(Unproven, match=r"^peer showed no certificate$"):
        shake(server, client)
    assert client.handshake(), "a client of TLS 1.3 is done first"
    client.feed(server.take())
    with pytest.raises(TlsError, match=r"^peer refused: it demands a certificate"):
        client.read_into(room())
    server = serve(server_context(ends.identity, ends.identity.chain))
    server.feed(b"GET / HTTP/1.0")
    with pytest.raises(TlsError) as caught:
        server.handshake()
    assert not isinstance(caught.value, Unproven)
