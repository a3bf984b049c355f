import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    operations = [
        migrations.CreateModel(
            "Customer",
            [
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True)),
                ("name", models.CharField(max_length=100)),
            ],
        ),
        migrations.CreateModel(
            "Tag",
            [
                ("id", models.AutoField(primary_key=True)),
                ("name", models.CharField(max_length=20)),
            ],
        ),
        migrations.CreateModel(
            "Order",
            [
                ("id", models.AutoField(primary_key=True)),
                ("status", models.CharField(max_length=10, default="new", db_column="State")),
                ("total", models.DecimalField(max_digits=12, decimal_places=2, default=0)),
                ("placed", models.DateTimeField(null=True)),
                ("day", models.DateField(null=True)),
                ("clock", models.TimeField(null=True)),
                ("took", models.DurationField(null=True)),
                ("gift", models.BooleanField(default=False)),
                ("weight", models.FloatField(null=True)),
                ("extra", models.JSONField(null=True)),
                ("code", models.UUIDField(null=True)),
                ("raw", models.BinaryField(null=True)),
                ("address", models.GenericIPAddressField(null=True)),
                ("note", models.TextField(null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        null=True,
                        db_column="cust",
                        on_delete=django.db.models.deletion.CASCADE,
                        to="shop.customer",
                    ),
                ),
                ("tags", models.ManyToManyField(to="shop.Tag")),
            ],
            options={"db_table": "Shop orders"},
        ),
        migrations.CreateModel("Urgent", [], options={"proxy": True}, bases=("shop.order",)),
        migrations.CreateModel(
            "Rush",
            [
                (
                    "order_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="shop.order",
                    ),
                ),
                ("hours", models.IntegerField(default=1)),
            ],
            bases=("shop.order",),
        ),
    ]
