"""Settings without end: of a startup packet, and of what a server reports. They cost what they are worth, and no more are
taken than can be followed."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from fakeserver import ONE, READY, FakeServer
from hostile import others_work_on
from proxy import Proxy
from rawpg import Connection, message, query, startup, text

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("the limits are Martlet's")]


def status(name: str, value: str) -> bytes:
    return message("S", text(name) + text(value))


def fatal(connection: Connection) -> dict[str, str]:
    errors = [each.fields() for each in connection.read_all() if each.type == "E"]
    assert [each["S"] for each in errors] == ["FATAL"]
    return errors[0]


@pytest.mark.parametrize("form", ["parameters", "options"])
def test_startup_packet(proxy: Proxy, form: str) -> None:
    """As many settings as are taken hold, one more is refused by name of the limit."""
    def packet(count: int) -> bytes:
        settings = {f"a.x{number}": str(number) for number in range(count)}
        if form == "parameters":
            return startup({"user": "app", "database": "app"} | settings)
        return startup({"user": "app", "database": "app",
                        "options": " ".join(f"-c{name}={value}" for name, value in settings.items())})

    with Connection(proxy.host, proxy.port) as connection:
        connection.send(packet(256))
        connection.authenticate("app", "")
        assert connection.simple("SHOW a.x255") == [[b"255"]]
        assert connection.simple("SHOW a.x0") == [[b"0"]]
    with others_work_on(proxy), Connection(proxy.host, proxy.port) as connection:
        connection.send(packet(257))
        error = fatal(connection)
        assert (error["C"], error["M"]) == ("54000", "too many parameters (at most 256 are taken)")


def test_clients_with_many_settings_take_turns(start_proxy: Callable[..., Proxy], database: str) -> None:
    """Each finds its own on the one connection, and none of the others'."""
    proxy = start_proxy(settings={"default_pool_size": 1})
    clients = []
    for client in range(3):
        connection = Connection(proxy.host, proxy.port)
        connection.send(startup({"user": "app", "database": database} | {
            f"c{client}.x{number}": f"{client}-{number}" for number in range(200)}))
        connection.authenticate("app", "")
        clients.append(connection)
    for _ in range(2):
        for number, connection in enumerate(clients):
            assert connection.simple(f"SHOW c{number}.x199") == [[f"{number}-199".encode()]]
            other = (number + 1) % 3
            assert connection.simple(f"SELECT coalesce(current_setting('c{other}.x7', true), '')") == [[b""]]
    for connection in clients:
        connection.socket.close()


@pytest.mark.parametrize("when", ["login", "query"])
def test_server_reports_many_names(start_proxy: Callable[..., Proxy], when: str) -> None:
    flood = b"".join(status(f"name{number}", "x" * 5) for number in range(8000))
    with FakeServer(None, reply=flood + ONE, ready=READY[:-6] + flood + READY[-6:] if when == "login" else READY) as server:
        proxy = start_proxy(run=False, settings={"query_wait_timeout": 5}, threads=1)
        proxy.databases = {"fake": f"host=127.0.0.1 port={server.port}", "app": proxy.server()}
        proxy.start()
        with others_work_on(proxy), Connection(proxy.host, proxy.port) as connection:
            connection.send(startup({"user": "app", "database": "fake"}))
            if when == "query":
                connection.authenticate("app", "")
                connection.send(query("SELECT 1"))
            error = fatal(connection)
            assert "invalid server parameter: too many parameters" in error["M"], error
        assert "too many parameters (at most 256 are taken)" in proxy.log_text()


def test_server_reports_the_same_names_again_and_again(start_proxy: Callable[..., Proxy]) -> None:
    """Each report is passed on, and the last ones hold; the cost grows with their number only."""
    def reports(count: int) -> bytes:
        return b"".join(status(f"name{number % 200}", str(number)) for number in range(count))

    costs = []
    for count in (4_000, 16_000):
        with FakeServer(None, reply=reports(count) + ONE) as server:
            proxy = start_proxy(run=False, threads=1)
            proxy.databases = {"fake": f"host=127.0.0.1 port={server.port}"}
            proxy.start()
            with Connection(proxy.host, proxy.port).login(database="fake") as connection:
                before = proxy.figures.cpu_seconds()
                answer = connection.ask(query("SELECT 1"))
                costs.append(proxy.figures.cpu_seconds() - before)
                assert sum(each.type == "S" for each in answer) == count
                assert connection.parameters["name7"] == str(count - 200 + 7)
    assert costs[1] < 10 * max(costs[0], 0.05), costs


def test_many_logins_leave_at_once(start_proxy: Callable[..., Proxy]) -> None:
    """Those that wait for the first server connection, which does not come: their leaving is no burden."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        proxy = start_proxy(
            run=False, threads=1, settings={"max_client_conn": 4000, "server_connect_timeout": 60}, open_files=5000)
        proxy.databases = {"silent": f"host=127.0.0.1 port={silent.getsockname()[1]}", "app": proxy.server()}
        proxy.start()
        clients = []
        for _ in range(800):
            client = socket.create_connection((proxy.host, proxy.port))
            client.sendall(startup({"user": "app", "database": "silent"}))
            clients.append(client)
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 800, "all wait", "silent", timeout=20)
        for client in clients[:-1]:
            client.close()
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 1, "one is left", "silent", timeout=20)
        with proxy.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        clients[-1].close()
        proxy.wait_pool(lambda pool: pool["cl_waiting"] == 0, "none is left", "silent")
