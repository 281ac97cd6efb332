"""Many rows in one statement: executemany on SQLite, UNNEST on PostgreSQL (one row a key: callers fold first)."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import LargeBinary, Text

Rows = Sequence[tuple[Any, ...]]


def is_postgresql(connection: AsyncConnection) -> bool:
    """Which of the two dialects this connection speaks."""
    return connection.dialect.name == "postgresql"


async def upsert(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Insert *rows* (every column, in the table's order), or replace those whose primary key is there."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    await _put(connection, table, names, rows, f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}")


async def insert(connection: AsyncConnection, table: Table, rows: Rows, *, ignore: bool = False) -> None:
    """Insert *rows*; columns that count by themselves are left out. With *ignore*, rows that are there stay."""
    names = [column.name for column in table.columns if column.autoincrement is not True]
    await _put(connection, table, names, rows, " ON CONFLICT DO NOTHING" if ignore else "")


async def select_by_keys(connection: AsyncConnection, query: str, *columns: Sequence[str]) -> list[Any]:
    """Rows of *query*, which joins `keys(a[, b])`: the text columns given, as a table."""
    names = ("a", "b")[: len(columns)]
    if is_postgresql(connection):
        arrays = ", ".join(f"${number}::text[]" for number in range(1, len(columns) + 1))
        keys = f"WITH keys({', '.join(names)}) AS (SELECT * FROM UNNEST({arrays})) "
        result = await connection.exec_driver_sql(keys + query, tuple(list(column) for column in columns))
    else:
        fields = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(columns)))
        keys = f"WITH keys({', '.join(names)}) AS (SELECT {fields} FROM json_each(?)) "
        rows = msgspec.json.encode(list(zip(*columns, strict=True))).decode()
        result = await connection.exec_driver_sql(keys + query, (rows,))
    return list(result.fetchall())


async def _put(connection: AsyncConnection, table: Table, names: list[str], rows: Rows, conflict: str) -> None:
    if not rows:
        return
    into = f"INSERT INTO {table.name} ({', '.join(names)}) "
    if is_postgresql(connection):
        arrays = ", ".join(f"${place}::{_array(table, name)}" for place, name in enumerate(names, 1))
        statement = f"{into}SELECT * FROM UNNEST({arrays}){conflict}"
        await connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
        return
    places = ", ".join("?" * len(names))
    await connection.exec_driver_sql(f"{into}VALUES ({places}){conflict}", [tuple(row) for row in rows])


def _array(table: Table, name: str) -> str:
    kind = table.columns[name].type
    if isinstance(kind, LargeBinary):
        return "bytea[]"
    return "text[]" if isinstance(kind, Text) else "bigint[]"
