"""The data classes discovery speaks of, each with its paragraph of 45 CFR 164.514(b)(2)(i)."""

from django.db import migrations

# (class, title, paragraph). Spelled out: a migration must not change with the code.
CLASSES = (
    ("name", "Names", "A"),
    ("location", "Places smaller than a state", "B"),
    ("zip", "ZIP codes", "B"),
    ("date", "Dates of a person's life", "C"),
    ("age", "Ages", "C"),
    ("phone", "Telephone numbers", "D"),
    ("fax", "Fax numbers", "E"),
    ("email", "E-mail addresses", "F"),
    ("ssn", "Social security numbers", "G"),
    ("mrn", "Medical record numbers", "H"),
    ("health_plan", "Health plan beneficiary numbers", "I"),
    ("account", "Account numbers", "J"),
    ("licence", "Certificate and licence numbers", "K"),
    ("vehicle", "Vehicle identifiers", "L"),
    ("device", "Device identifiers", "M"),
    ("url", "Web addresses", "N"),
    ("ip", "Internet addresses", "O"),
    ("mac", "Hardware addresses", "O"),
    ("biometric", "Biometric identifiers", "P"),
    ("photo", "Photographs", "Q"),
    ("note", "Free text", "R"),
    ("other", "Other unique characteristics", "R"),
)


def add_classes(apps, schema_editor):
    data_class = apps.get_model("masking", "DataClass")
    for name, title, letter in CLASSES:
        data_class.objects.get_or_create(
            name=name, defaults={"title": title, "source": f"45 CFR 164.514(b)(2)(i)({letter})"}
        )


class Migration(migrations.Migration):
    dependencies = [("masking", "0003_tag_dismissed")]
    operations = [migrations.RunPython(add_classes, migrations.RunPython.noop)]
