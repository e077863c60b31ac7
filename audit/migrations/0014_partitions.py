"""Sealed texts and the index of subjects become partitioned by place (audit.domain.partitions).

What is there becomes the first partition as it is: no row is copied; its bound is checked by one reading. To Django
nothing changes. Backwards: the rows go into plain tables again.
"""

from django.db import migrations

TABLES = ("audit_sealedtext", "audit_subjectsighting")
LEAST = 100_000


def forwards(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(seq), 0) FROM audit_logentry")
        high = (cursor.fetchone()[0] // LEAST + 1) * LEAST
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_p0")
            # Its indexes keep their names; the parent's are new and take those of equal definition as their parts.
            cursor.execute(
                f"CREATE TABLE {table} (LIKE {table}_p0 INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE"
                " INCLUDING INDEXES) PARTITION BY RANGE (seq)"
            )
            cursor.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
            cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {table}_p0 FOR VALUES FROM (MINVALUE) TO ({high})")


def backwards(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"CREATE TABLE {table}_plain (LIKE {table} INCLUDING ALL)")
            cursor.execute(f"INSERT INTO {table}_plain SELECT * FROM {table}")
            cursor.execute(f"DROP TABLE {table}")
            cursor.execute(f"ALTER TABLE {table}_plain RENAME TO {table}")


class Migration(migrations.Migration):
    dependencies = [("audit", "0013_subject_reports")]
    operations = [migrations.RunPython(forwards, backwards)]
