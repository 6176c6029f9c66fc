"""Fetching pages, from a server on this machine that the test lets through."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from promptlab import Reply, run
from promptlab.errors import SetupError, WrongCall
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.web import Web, fetch, fetching, is_public, plain
from promptlab.types import ToolCall

HTML = (
    "<html><head><title>Wells</title><script>var x;</script></head><body><p>Two  wells</p><p>are &lt;dry&gt;</p></body>"
)


class Pages(BaseHTTPRequestHandler):
    """What a host could answer, by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.headers["Host"].split(":")[0], self.path))
        name, _, rest = self.path.lstrip("/").partition("/")
        match name:
            case "page":
                self.answer(HTML.encode(), "text/html; charset=utf-8")
            case "latin":
                self.answer("café".encode("latin-1"), "text/plain; charset=latin-1")
            case "unknown":
                self.answer(b"text", "text/plain; charset=klingon")
            case "punycode":
                self.answer(b"a" * 200_000 + b"-" + b"b" * 200_000, "text/plain; charset=punycode")
            case "picture":
                self.answer(b"\x89PNG", "image/png")
            case "to":
                self.answer(b"", "text/plain", 302, Location=rest.replace("PORT", str(self.server.server_port)))
            case "loop":
                self.answer(b"", "text/plain", 301, Location="/loop")
            case "endless":
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Connection", "close")
                self.end_headers()
                while self.drip(b"x" * 65536, 0):
                    pass
            case "drip":
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Connection", "close")
                self.end_headers()
                while self.drip(b"x", 0.05):
                    pass
            case "headers":
                while self.drip(b"H", 0.05):
                    pass
            case _:
                self.answer(b"none", "text/plain", 404)

    def answer(self, body, kind, status=200, **headers):
        self.send_response(status)
        for header, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, some, seconds):
        """Whether the client still takes it."""
        try:
            self.wfile.write(some)
        except OSError:
            return False
        time.sleep(seconds)
        self.close_connection = True
        return True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as made:
        made.asked = []
        made.daemon_threads = True
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


ADDRESSES = {"pages.test": ["127.0.0.1"], "inner.test": ["10.0.0.7"], "both.test": ["93.184.216.34", "127.0.0.2"]}


def web(**options):
    hosts = ["pages.test", "inner.test", "both.test", "nowhere.test"]
    known = {"resolve": lambda host, port: ADDRESSES.get(host, []), "trusted": ["127.0.0.1"]}
    return Web(hosts, **{**known, **options})


def at(server, path):
    return f"http://pages.test:{server.server_port}/{path}"


def test_a_page_is_its_text(server):
    assert web().fetch(at(server, "page")) == "Wells\nTwo wells\nare <dry>"
    assert web().fetch(at(server, "latin")) == "café"
    assert web().fetch(at(server, "unknown")) == "text"
    assert web().fetch(at(server, "to//page")) == "Wells\nTwo wells\nare <dry>"


def test_a_redirect_is_judged_as_a_page_of_its_own(server):
    """Neither to hosts that are not allowed nor to private addresses, whatever they are called."""
    for target, told in {
        "http://127.0.0.1:PORT/page": "127.0.0.1 is not among the hosts",
        "http://localhost:PORT/page": "localhost is not among the hosts",
        "http://169.254.169.254/latest/meta-data": "not among the hosts",
        "http://inner.test/": "inner.test leads to a private address",
        "http://both.test/": "both.test leads to a private address",
        "file:///etc/passwd": "no address of a page",
        "gopher://pages.test/": "no address of a page",
        "http://pages.test@inner.test/": "no address of a page",
    }.items():
        model = Script(
            [Reply(calls=(ToolCall("1", "fetch", {"url": at(server, f"to/{target}")}),)), Reply(text="done")]
        )
        answer = run(react("q", [fetching(web())]), model)
        [seen] = [message.content for message in answer.trace if message.role == "tool"]
        assert seen.startswith("Error: ")
        assert told in seen
        assert answer.value == "done"
    assert {path.split("/")[1] for _, path in server.asked} == {"to"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("pages.test/page", "no address of a page"),
        ("http://", "no address of a page"),
        ("http://pages.test:99999/", "no address of a page"),
        ("http://pages.test/a b", "no address of a page"),
        ("http://pages.test/a\r\nX: y", "no address of a page"),
        ("http://[::1]/", "not among the hosts"),
        ("http://2130706433/", "not among the hosts"),
        ("http://example.org/", "example.org is not among the hosts"),
        ("http://pages.test.example.org/", "not among the hosts"),
        ("http://nowhere.test/", "has no address"),
    ],
)
def test_what_is_no_page_that_may_be_asked_is_refused(url, told):
    with pytest.raises(WrongCall, match=told):
        web().fetch(url)


def test_an_address_that_is_private_is_not_asked(server):
    """The same page, which the test no longer lets through."""
    with pytest.raises(WrongCall, match="leads to a private address"):
        web(trusted=()).fetch(at(server, "page"))
    assert server.asked == []


def test_the_connection_goes_to_the_address_that_was_looked_at(server):
    """A name that means another address the next time it is asked (DNS rebinding) gains nothing: it is asked once."""
    answers = [["127.0.0.1"], ["10.0.0.7"]]
    assert web(resolve=lambda host, port: answers.pop(0)).fetch(at(server, "page"))
    assert answers == [["10.0.0.7"]]
    assert server.asked == [("pages.test", "/page")]


@pytest.mark.parametrize(
    ("path", "told"),
    [("picture", "no text but image/png"), ("none", "answers 404"), ("loop", "more than 5 times")],
)
def test_what_cannot_be_read_is_told(server, path, told):
    with pytest.raises(WrongCall, match=told):
        web().fetch(at(server, path))


def test_an_endless_page_is_cut(server):
    page = web(most_bytes=100_000).fetch(at(server, "endless"))
    assert page.endswith("[only the first 100,000 bytes]")
    assert len(page) < 17_000


@pytest.mark.parametrize("path", ["drip", "headers"])
def test_a_page_that_drips_is_given_up(server, path):
    with pytest.raises(WrongCall, match="it takes more than 0"):
        web(timeout_s=0.5).fetch(at(server, path))


def test_a_page_that_drips_after_a_name_that_was_long_looked_up_is_given_up(server):
    """The time is over before there is a connection to hang up."""

    def slowly(host, port):
        time.sleep(0.3)
        return ["127.0.0.1"]

    with pytest.raises(WrongCall, match="it takes more than 0"):
        web(timeout_s=0.2, resolve=slowly).fetch(at(server, "drip"))


@pytest.mark.parametrize("label", ["", "a" * 64])
def test_a_name_that_is_none_is_told(label):
    with pytest.raises(WrongCall, match="is not found"):
        Web(["*.pages.test"]).fetch(f"http://x.{label}.pages.test/")


def test_a_charset_that_takes_hours_is_not_used(server):
    started = time.process_time()
    assert web().fetch(at(server, "punycode")).startswith("aaa")
    assert time.process_time() - started < 10  # it takes minutes


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.0.0.1 172.16.3.4 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1 ::1 :: "
    "fe80::1 fc00::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1 fe80::1%eth0 ff02::1 "
    "fec0::2 ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b:1::7f00:1".split(),
)
def test_a_private_address_is_told_from_a_public_one(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_one(address):
    assert is_public(address)


def test_hosts_may_be_named_with_all_beneath_them():
    allowed = Web(["example.org", "*.who.test"])
    assert [allowed.allows(host) for host in ("Example.org", "x.who.test", "who.test", "awho.test")] == [
        True,
        True,
        False,
        False,
    ]
    assert fetch("example.org, *.who.test").spec.name == "fetch"
    with pytest.raises(SetupError, match="a list of the hosts"):
        Web([])


def test_markup_that_is_broken_is_text_all_the_same():
    assert plain("<p>a<b>c</p></script>d<style>e") == "ac\nd"
    assert (
        plain("a < b, 3 <5<!-- <p> --><script>'</p>'</script>, <a title='>' href=x'>c</a>&amp;d") == "a < b, 3 <5, c&d"
    )
    assert plain("<template>a<p>b</template>c<template/>d<script src='x'/>e<noscript>f") == "cde"
    assert plain(f"a&#{'1' * 5_000};") == f"a&#{'1' * 5_000};"


@pytest.mark.parametrize("sign", ["<", "<!", "<a ", "<a x='", "<!--", "</", "<script>", "&#"])
def test_a_page_is_read_in_linear_time(sign):
    started = time.process_time()
    plain(sign * 100_000)
    assert time.process_time() - started < 5  # a tenth; Python's own parser takes minutes for most of these
