"""Upstreams over Unix-domain sockets: no TLS there, and nothing leaves the machine."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gateway", "0008_provisioning")]

    operations = [
        migrations.RemoveConstraint(model_name="connection", name="connection_plaintext_on_loopback_only"),
        migrations.AlterField(
            model_name="connection",
            name="tls",
            field=models.CharField(
                choices=[
                    ("disable", "disable (loopback and Unix sockets only)"),
                    ("require", "require"),
                    ("verify-full", "verify-full"),
                ],
                default="verify-full",
                max_length=20,
            ),
        ),
        migrations.AddConstraint(
            model_name="connection",
            constraint=models.CheckConstraint(
                name="connection_plaintext_on_loopback_only",
                condition=~models.Q(tls="disable")
                | models.Q(host__in=["localhost", "::1", "[::1]"])
                | models.Q(host__startswith="127.")
                | models.Q(host__startswith="/"),
            ),
        ),
    ]
