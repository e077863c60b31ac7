"""The newest entry that statements tell of is found by an index: it is asked for before every checkpoint."""

from importlib import import_module

from django.db import migrations, models

beside_writers = import_module("audit.migrations.0017_ascending_indexes")


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY is not for transactions

    dependencies = [("audit", "0018_sealed_text_without_key_index")]

    operations = [
        beside_writers.AddIndexBesideWriters(
            model_name="statementrecord", index=models.Index(fields=["last_seq"], name="audit_statement_last_entry")
        )
    ]
