"""Statements are found by what they touched: tables, columns, classes, rules."""


import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.db import migrations, models


BACKFILL = """
UPDATE audit_statementrecord AS s SET touched = ARRAY(
    SELECT DISTINCT word COLLATE "C" FROM (
        SELECT 'read:' || e FROM jsonb_array_elements_text(s.tables_read) AS e
        UNION ALL SELECT 'write:' || e FROM jsonb_array_elements_text(s.tables_written) AS e
        UNION ALL SELECT 'column:' || e FROM jsonb_array_elements_text(s.columns_read) AS e
        UNION ALL SELECT 'class:' || e FROM jsonb_array_elements_text(s.classes) AS e
        UNION ALL SELECT 'rule:' || s.rule WHERE s.rule <> ''
        UNION ALL SELECT 'decision:' || s.decision WHERE s.decision <> ''
        UNION ALL SELECT 'code:' || s.code WHERE s.code <> ''
    ) AS words(word) ORDER BY 1);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('audit', '0005_journal_position'),
    ]

    operations = [
        migrations.AddField(
            model_name='statementrecord',
            name='touched',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), default=list, size=None),
        ),
        migrations.AddIndex(
            model_name="logentry",
            index=models.Index(fields=["subject", "-seq"], name="audit_entry_subject"),
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name='statementrecord',
            index=django.contrib.postgres.indexes.GinIndex(fields=['touched'], name='audit_statement_touched'),
        ),
        migrations.AddIndex(
            model_name='statementrecord',
            index=models.Index(condition=models.Q(('status', 'denied')), fields=['-at', '-id'], name='audit_statement_denied'),
        ),
    ]
