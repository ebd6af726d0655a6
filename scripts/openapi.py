"""Writes docs/openapi.yaml from the code, or says whether it differs from it."""

import argparse
import os
import sys

import django

from sollol_site.environment import ROOT

DOCUMENT = ROOT / "docs" / "openapi.yaml"


def description() -> str:
    """The control plane's OpenAPI description as the code has it. Raises SystemExit on what cannot be described."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sollol_site.settings")
    django.setup()
    from drf_spectacular.drainage import GENERATOR_STATS  # noqa: PLC0415 (wants Django to be set up)
    from drf_spectacular.generators import SchemaGenerator  # noqa: PLC0415 (as above)
    from drf_spectacular.renderers import OpenApiYamlRenderer  # noqa: PLC0415 (as above)
    from drf_spectacular.validation import validate_schema  # noqa: PLC0415 (as above)

    schema = SchemaGenerator().get_schema(request=None, public=True)
    validate_schema(schema)
    if GENERATOR_STATS:
        GENERATOR_STATS.emit_summary()
        sys.exit("the views do not say enough for their description")
    told: bytes = OpenApiYamlRenderer().render(schema, renderer_context={})
    return told.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="Write it; without it they are only compared.")
    options = parser.parse_args()
    told = description()
    if DOCUMENT.exists() and DOCUMENT.read_text() == told:
        return
    if not options.write:
        sys.exit(f"{DOCUMENT.relative_to(ROOT)} differs from the code; run: make docs")
    DOCUMENT.write_text(told)
    print(f"{DOCUMENT.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
