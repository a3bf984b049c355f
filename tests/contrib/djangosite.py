"""A site of Django's in a process of its own: ``python -m tests.contrib.djangosite SCENARIO``.

DATABASES is in the environment, as JSON, and so is PGEVENTS. A scenario is a function of
``djangoscenarios.py``; what it prints is what a test looks at.
"""

import json
import os
import sys

from django.conf import settings
from django.http import JsonResponse
from django.urls import path


def order(request):
    """Insert an order."""
    from .shop.models import Order

    return JsonResponse(Order.objects.create(note=request.path).pk, safe=False)


def heard(request):
    """Which process this is, what its hub does, and how many orders it has received."""
    from pgevents.contrib import django as contrib

    from .shop.events import heard as received

    status = contrib.hub().status()
    return JsonResponse(
        {"pid": os.getpid(), "state": status["state"], "heard": len(received.events)}
    )


urlpatterns = [path("order", order), path("heard", heard)]


def configure():
    settings.configure(
        DATABASES=json.loads(os.environ["SITE_DATABASES"]),
        PGEVENTS=json.loads(os.environ.get("SITE_PGEVENTS", "{}")),
        INSTALLED_APPS=["pgevents.contrib.django", "tests.contrib.shop"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=os.environ.get("SITE_USE_TZ", "1") == "1",
        TIME_ZONE="Asia/Kolkata",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        SECRET_KEY="no secret",
    )


def application():
    """Return the site for a WSGI server: ``tests.contrib.djangosite:application()``."""
    from django.core.wsgi import get_wsgi_application

    configure()
    return get_wsgi_application()


def main():
    import django

    configure()
    django.setup()
    if sys.argv[1] == "manage":
        from django.core.management import execute_from_command_line

        execute_from_command_line(["manage.py", *sys.argv[2:]])
        return
    from . import djangoscenarios

    getattr(djangoscenarios, sys.argv[1])()


if __name__ == "__main__":
    # Under its own name: views are found by it.
    from tests.contrib import djangosite

    djangosite.main()
