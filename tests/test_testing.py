"""What users' own tests are given: scripted replies and a guard against the network."""

from __future__ import annotations

import asyncio
import socket

import pytest

from promptlab import ModelError, Reply, ask, attempt, gather, model, replay, run
from promptlab.errors import ReplayMiss, SetupError
from promptlab.testing import FakeServer, Script, no_network


def test_a_list_of_replies_is_used_up_in_the_order_asked():
    model = Script(["a", Reply("b", finish="length"), ModelError("c")])
    first, second, third = run(gather(ask("1"), ask("2"), attempt(ask("3"))), model)
    assert (first.text, second.finish, str(third)) == ("a", "length", "c")
    with pytest.raises(ReplayMiss, match="'4'"):
        run(ask("4"), model)


def test_a_hosted_script_answers_in_the_order_asked_too():
    model = Script([str(i) for i in range(50)], batched=False)
    replies = run(gather(ask(f"q{i}") for i in range(50)), model, max_in_flight=50)
    assert [reply.text for reply in replies] == [str(i) for i in range(50)]
    assert model.batches == [1] * 50


def test_a_long_prompt_is_shortened_in_a_miss():
    with pytest.raises(ReplayMiss) as caught:
        run(ask("word " * 1000), Script([]))
    assert len(str(caught.value)) < 300


def test_the_name_of_a_recording_is_given_as_a_path():
    with pytest.raises(SetupError, match=r"pass Path\('rp\.db'\)"):
        replay(ask("q"), "rp.db")
    with pytest.raises(SetupError, match="list of replies"):
        replay(ask("q"), Reply("a"))


def test_a_recording_of_two_models_is_replayed_of_one(tmp_path):
    with FakeServer(["a", "b"]) as server:
        for name in ("small", "large"):
            run(ask("q"), model(f"openai:{name}@{server.url}", cache=tmp_path / "both.db"))
    with pytest.raises(SetupError, match="model="):
        replay(ask("q"), tmp_path / "both.db")
    assert replay(ask("q"), tmp_path / "both.db", model="small").text == "a"
    assert replay(ask("q"), tmp_path / "both.db", model="large").text == "b"


def connected(address: tuple[str, int]) -> None:
    socket.create_connection(address, timeout=1).close()


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


def test_no_network_refuses_every_address(server):
    with no_network(), pytest.raises(AssertionError, match=r"127\.0\.0\.1"):
        connected(server)
    with no_network(), pytest.raises(AssertionError, match="example"):
        socket.getaddrinfo("host.example", 443)
    with no_network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pytest.raises(AssertionError):
        udp.sendto(b"x", server)
    connected(server)


@pytest.mark.parametrize(
    ("look_up", "asked"),
    [
        ("getaddrinfo", ("host.example", 443)),
        ("gethostbyname", ("host.example",)),
        ("gethostbyname_ex", ("host.example",)),
        ("gethostbyaddr", ("192.0.2.1",)),
        ("getnameinfo", (("192.0.2.1", 80), 0)),
        ("getfqdn", ("192.0.2.1",)),
    ],
)
@pytest.mark.parametrize("loopback", [False, True])
def test_no_network_refuses_to_look_anything_up(look_up: str, asked: tuple[object, ...], loopback: bool):
    with no_network(loopback=loopback), pytest.raises(AssertionError, match=r"host\.example|192\.0\.2\.1"):
        getattr(socket, look_up)(*asked)


def test_this_machine_may_be_looked_up():
    with no_network(loopback=True):
        assert socket.gethostbyname("localhost").startswith("127.")
        assert socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0] == "127.0.0.1"


def test_no_network_may_leave_this_machine_reachable(server):
    with no_network(loopback=True):
        connected(server)
        with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
            connected(("192.0.2.1", 9))


def test_no_network_holds_for_event_loops_too(server):
    async def reach() -> None:
        await asyncio.open_connection(*server)

    with no_network(), pytest.raises(AssertionError, match="no_network"):
        asyncio.run(reach())


def test_no_network_can_be_nested_and_leaves_nothing_behind(server):
    with no_network(loopback=True):
        with no_network(), pytest.raises(AssertionError):
            connected(server)
        connected(server)
    assert "connect" not in vars(socket.socket)


@no_network()
def test_programs_on_a_script_need_no_network():
    assert run(ask("x"), Script(["y"], batched=False)).text == "y"
