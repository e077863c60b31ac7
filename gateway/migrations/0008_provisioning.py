"""People the identity provider manages, and the tokens it manages them with."""

import django.core.validators
import django.utils.timezone
from django.db import migrations, models

from gateway.models import validate_name


def adopt(apps, schema_editor):  # type: ignore[no-untyped-def]
    """Accounts that were made by a sign-in at the provider are the provider's."""
    apps.get_model("gateway", "PersonStatus").objects.exclude(oidc_subject=None).update(managed=True)


class Migration(migrations.Migration):
    dependencies = [("gateway", "0007_quotas")]

    operations = [
        migrations.CreateModel(
            name="ScimToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=63, unique=True, validators=[validate_name])),
                ("digest", models.CharField(db_index=True, editable=False, max_length=64)),
                ("enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={"ordering": ["name"], "verbose_name": "provisioning token"},
        ),
        migrations.AddField(
            model_name="personstatus",
            name="managed",
            field=models.BooleanField(
                default=False, help_text="the identity provider made the account and may change it"
            ),
        ),
        migrations.AddField(
            model_name="personstatus",
            name="external_id",
            field=models.CharField(blank=True, help_text="SCIM externalId", max_length=255, null=True, unique=True),
        ),
        migrations.RunPython(adopt, migrations.RunPython.noop),
    ]
