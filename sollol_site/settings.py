"""Django's settings, derived from the environment."""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from pydantic import ValidationError

from sollol_site import logs
from sollol_site.environment import ROOT, Environment


def read_environment() -> Environment:
    try:
        return Environment()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise ImproperlyConfigured(f"bad setting in the environment or .env: {faults}") from None
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{ROOT / '.env'} is no text in UTF-8") from None


ENV = read_environment()
DATA_DIR = ENV.sollol_data_dir.expanduser().resolve()
STATIC_ROOT = DATA_DIR / "staticfiles"
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "uploads"
try:
    for folder in (STATIC_ROOT, FILE_UPLOAD_TEMP_DIR):
        folder.mkdir(parents=True, exist_ok=True)
except OSError as fault:
    raise ImproperlyConfigured(f"SOLLOL_DATA_DIR: {DATA_DIR} cannot be used: {fault.strerror}") from None


def kept_secret_key(path: Path) -> str:
    """The generated secret key; made once, readable by its owner only."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        key = secrets.token_urlsafe(64)
        file.write(key)
    return key


SECRET_KEY = ENV.sollol_secret_key or kept_secret_key(DATA_DIR / "secret_key")
DEBUG = ENV.sollol_debug
ALLOWED_HOSTS = [*ENV.sollol_allowed_hosts, ENV.sollol_host]

INSTALLED_APPS = [
    "daphne",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "fleet",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "sollol_site.urls"
ASGI_APPLICATION = "sollol_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA_DIR / "sollol.sqlite3",
    # Writers take their lock at the start, so that two of them wait for each other instead of failing half way.
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728;",
    },
}
if ENV.database_url:
    DATABASES: dict[str, dict[str, Any]] = {"default": {**dj_database_url.parse(ENV.database_url, conn_max_age=0)}}
    # The worker's processes are forks of one: with a pool they would speak over the same connections.
    if DATABASES["default"]["ENGINE"].endswith("postgresql") and "qcluster" not in sys.argv:
        DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": 16, "timeout": 10}
else:
    DATABASES = {"default": SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [ENV.redis_url]}}
    if ENV.redis_url
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}

Q_CLUSTER = {
    "name": "sollol",
    "orm": "default",
    # One more than the lanes of a batch job, so that a long job does not hold up the health sweep.
    "workers": 3,
    "timeout": 120,
    # A task is handed out again after `retry` seconds: longer than any task may run, or it would run twice.
    "retry": 180,
    "max_attempts": 3,
    "ack_failures": True,
    "catch_up": False,
    # Seconds between two looks at an empty queue: what is handed over waits half of that on average.
    "poll": 0.5,
    "save_limit": 500,
    "label": "Background tasks",
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "fleet.api.authentication.KeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["fleet.api.permissions.MayManage"],
    "EXCEPTION_HANDLER": "fleet.api.faults.answer",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "fleet.api.description.Description",
    "DEFAULT_PAGINATION_CLASS": "fleet.api.filters.Numbered",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "SOLLOL: the control plane",
    "DESCRIPTION": "Nodes, teams, keys, policies and history of a fleet of Ollama servers. The Ollama, OpenAI and "
    "Anthropic routes are beside it and are those of the servers themselves.",
    "VERSION": "1",
    "SERVE_PERMISSIONS": ["fleet.api.permissions.MayManage"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/(fleet/)?",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_NAME_OVERRIDES": {
        "HostState": "fleet.api.overview_shapes.STATES",
        "FleetState": "fleet.api.overview_shapes.CONDITIONS",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "fleet.api.description.with_answers",
    ],
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATICFILES_DIRS = [ROOT / "static"]
WHITENOISE_USE_FINDERS = True
LOGIN_URL = "admin:login"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = ENV.sollol_https
# What programs ask, like the data plane's routes, is not sent elsewhere.
SECURE_REDIRECT_EXEMPT = ["^v1/"]
SECURE_HSTS_SECONDS = 31_536_000 if ENV.sollol_https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = ENV.sollol_https
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.sollol_https else None
X_FRAME_OPTIONS = "DENY"


def page(title: str, icon: str, name: str) -> dict[str, Any]:
    """One line of the sidebar: a list page of admin, shown to those who may open it."""
    app, _, model = name.rpartition("_")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{name}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
    }


UNFOLD = {
    "SITE_TITLE": "SOLLOL",
    "SITE_HEADER": "SOLLOL",
    "SITE_SUBHEADER": "One address for a fleet of Ollama servers",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("icon.svg")}],
    "SHOW_HISTORY": True,
    "DASHBOARD_CALLBACK": "fleet.admin.landing.glance",
    "SIDEBAR": {
        "show_search": False,
        "navigation": [
            {
                "title": "Fleet",
                "items": [
                    {
                        "title": "Live dashboard",
                        "icon": "monitoring",
                        "link": reverse_lazy("dashboard"),
                        "permission": lambda request: request.user.has_perm("fleet.view_node"),
                    },
                    page("Nodes", "dns", "fleet_node"),
                    page("Models on nodes", "database", "fleet_nodemodel"),
                    page("Node events", "bolt", "fleet_nodeevent"),
                    page("Requests", "swap_horiz", "fleet_requestrecord"),
                    page("Batch jobs", "stacks", "fleet_batchjob"),
                    page("Sums by hour and day", "bar_chart", "fleet_rollup"),
                ],
            },
            {
                "title": "Routing",
                "items": [
                    page("Strategies", "alt_route", "fleet_routingstrategy"),
                    page("Rules", "rule", "fleet_routingrule"),
                    page("Learned speeds", "speed", "fleet_learnedspeed"),
                    page("Prefill probes", "healing", "fleet_prefillprobe"),
                ],
            },
            {
                "title": "Access",
                "items": [
                    page("Teams", "groups", "fleet_team"),
                    page("API keys", "key", "fleet_apikey"),
                    page("Priority policies", "low_priority", "fleet_prioritypolicy"),
                    page("Usage by day", "data_usage", "fleet_usageday"),
                    page("Users", "person", "auth_user"),
                    page("Groups", "shield_person", "auth_group"),
                ],
            },
            {
                "title": "Background tasks",
                "collapsible": True,
                "items": [
                    page("Schedules", "schedule", "django_q_schedule"),
                    page("Waiting", "hourglass", "django_q_ormq"),
                    page("Done", "task_alt", "django_q_success"),
                    page("Failed", "error", "django_q_failure"),
                ],
            },
        ],
    },
}

LOGGING = logs.configuration(ENV.sollol_log_level, ENV.sollol_log_format)
