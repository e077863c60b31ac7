"""The index of sealed texts by their key goes: nothing reads it, and every statement paid for it.

Texts are found by their place in the log alone; the key a box is sealed under is read out of the box. The table is
partitioned, and an index of all its parts cannot be dropped CONCURRENTLY: it is tried for two seconds at a time, with a
pause between two tries, so that nobody who appends waits longer behind somebody who reads.
"""

import time

from django.db import OperationalError, migrations, models, transaction

TRIES, PAUSE_S = 30, 1.0
INDEXES = (
    "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
    " WHERE i.indrelid = 'audit_sealedtext'::regclass AND pg_get_indexdef(i.indexrelid) LIKE '%(key_id%'"
)


def forwards(apps, schema_editor):
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        cursor.execute(INDEXES)
        names = ", ".join(schema_editor.quote_name(name) for (name,) in cursor.fetchall())
    if names:
        drop_patiently(connection, f"DROP INDEX {names}")  # of every partition with it


def drop_patiently(connection, statement):
    tries = 1 if connection.in_atomic_block else TRIES  # a lock that was given up must not leave others behind
    while True:
        tries -= 1
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                cursor.execute(statement)
            return
        except OperationalError:
            if not tries:
                raise
        time.sleep(PAUSE_S)


def backwards(apps, schema_editor):
    schema_editor.execute("CREATE INDEX IF NOT EXISTS audit_sealedtext_key_id_idx ON audit_sealedtext (key_id)")


class Migration(migrations.Migration):
    atomic = False  # each try is a transaction of its own

    dependencies = [("audit", "0017_ascending_indexes")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(forwards, backwards)],
            state_operations=[
                migrations.AlterField(model_name="sealedtext", name="key_id", field=models.CharField(max_length=16))
            ],
        )
    ]
