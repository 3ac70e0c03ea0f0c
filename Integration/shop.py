"""A small web shop as a load: sign up, look around, order, look at what was ordered."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import psycopg

SCHEMA = """
    CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price numeric NOT NULL, stock int NOT NULL);
    INSERT INTO products SELECT n, 'product ' || n, 5 + n % 40, 1000000 FROM generate_series(1, 500) n;
    CREATE TABLE customers (id bigserial PRIMARY KEY, name text NOT NULL, since timestamptz NOT NULL DEFAULT now());
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, placed timestamptz
        NOT NULL DEFAULT now());
    CREATE INDEX ON orders (customer);
    CREATE TABLE lines (of_order bigint NOT NULL REFERENCES orders, product int NOT NULL REFERENCES products,
        quantity int NOT NULL);
    CREATE INDEX ON lines (of_order);
    CREATE FUNCTION total(the_order bigint) RETURNS numeric STABLE LANGUAGE sql AS
        'SELECT sum(quantity * price) FROM lines JOIN products ON id = product WHERE of_order = the_order';
    CREATE FUNCTION place_order(the_customer bigint, product int, quantity int) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE new_order bigint;
        BEGIN
            INSERT INTO orders (customer) VALUES (the_customer) RETURNING id INTO new_order;
            INSERT INTO lines VALUES (new_order, product, quantity);
            RETURN new_order;
        END $$;
"""

# What customers do, in the order of the account. Each answers with a row, the port of the server in its last column.
SIGN_UP = "INSERT INTO customers (name) VALUES (%s) RETURNING id, inet_server_port()"
PROFILE = "SELECT max(name), inet_server_port() FROM customers WHERE id = %s"
BROWSE = "SELECT id, name, price, inet_server_port() FROM products WHERE id BETWEEN %s AND %s"
ORDER = "INSERT INTO orders (customer) VALUES (%s) RETURNING id, inet_server_port()"
LINE = "INSERT INTO lines VALUES (%s, %s, %s)"
STOCK = "UPDATE products SET stock = stock - %s WHERE id = %s"
LOOK = "SELECT total(%s), inet_server_port()"
PLACE = "SELECT place_order(%s, %s, %s), inet_server_port()"
ORDERS = "SELECT count(*), inet_server_port() FROM orders WHERE customer = %s"

ACTIONS = {
    "sign up": SIGN_UP, "read the own profile": PROFILE, "look around": BROWSE, "order, a transaction": ORDER,
    "look at that order": LOOK, "order by a function": PLACE, "count the own orders": ORDERS}
# The reads that show the customer what that customer has just written.
OWN_READS = ("read the own profile", "look at that order", "count the own orders")


class Shop:
    """Customers, a thread each, and what became of their statements."""

    def __init__(self, dsn: str, customers: int, seconds: float) -> None:
        self.dsn = dsn
        # (action, port of the server) -> how many; action -> how many did not show the customer's own writes.
        self.ran: Counter[tuple[str, int]] = Counter()
        self.stale: Counter[str] = Counter()
        self.errors: list[Exception] = []
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + seconds
        threads = [threading.Thread(target=self._customer, args=(number,)) for number in range(customers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def own_reads(self) -> int:
        return sum(count for (action, _), count in self.ran.items() if action in OWN_READS)

    def _customer(self, number: int) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                while time.monotonic() < self._deadline:
                    self._visit(connection, f"customer {number}", random.Random())
        except psycopg.Error as error:
            self.errors.append(error)

    def _visit(self, connection: psycopg.Connection, name: str, dice: random.Random) -> None:
        customer = self._do(connection, "sign up", name)
        self._check("read the own profile", self._do(connection, "read the own profile", customer) == name)
        for number in range(1, 4):
            for _ in range(3):
                self._think(dice)
                first = dice.randint(1, 480)
                self._do(connection, "look around", first, first + 10)
            if number % 2:
                with connection.transaction():
                    order = self._do(connection, "order, a transaction", customer)
                    product, quantity = dice.randint(1, 500), dice.randint(1, 3)
                    connection.execute(LINE, (order, product, quantity))
                    connection.execute(STOCK, (quantity, product))
            else:
                order = self._do(connection, "order by a function", customer, dice.randint(1, 500), 1)
            self._check("look at that order", self._do(connection, "look at that order", order) is not None)
            self._think(dice)
            self._check("count the own orders", self._do(connection, "count the own orders", customer) == number)

    def _do(self, connection: psycopg.Connection, action: str, *parameters: object) -> object:
        """Runs a statement, books where it ran, and gives the first column of its first row."""
        row = connection.execute(ACTIONS[action], parameters).fetchone()
        with self._lock:
            self.ran[action, row[-1]] += 1
        return row[0]

    def _check(self, action: str, fresh: bool) -> None:
        if not fresh:
            with self._lock:
                self.stale[action] += 1

    @staticmethod
    def _think(dice: random.Random) -> None:
        time.sleep(dice.uniform(0.005, 0.04))
