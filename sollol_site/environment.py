"""Every setting that comes from the environment or a .env file, typed and described in one place."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent

Names = Annotated[tuple[str, ...], NoDecode]


class Environment(BaseSettings):
    """The environment as the project reads it; field names in capitals are the variables' names."""

    model_config = SettingsConfigDict(env_file=ROOT / ".env", extra="ignore", env_ignore_empty=True)

    sollol_host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    sollol_port: int = Field(8000, ge=1, le=65535, description="Port that the gateway listens on.")
    sollol_nodes: str = Field(
        "",
        description="Ollama servers to add at start, comma separated: "
        "`[name=]host:port[?slots=4&vram_gb=24&class=gpu]`. Empty: `make run` starts three simulated nodes.",
    )
    sollol_data_dir: Path = Field(
        ROOT / "var", description="Folder of the SQLite file, the generated secret key, spools and logs."
    )
    sollol_anonymous: Literal["loopback", "deny", "allow"] = Field(
        "loopback",
        description="Who may use the Ollama routes without a key: this machine, nobody, everybody.",
    )
    sollol_routing_metadata: Literal["body", "headers", "off"] = Field(
        "body",
        description="Where answers tell how they were routed: headers and the final JSON object of native routes, "
        "headers alone, or nowhere.",
    )
    sollol_origins: Names = Field(
        (),
        description="Web pages that may use the Ollama routes beside those of this machine, comma separated, one `*` "
        "in each at most, as in `OLLAMA_ORIGINS`; `*` alone allows all.",
    )
    sollol_model_nodes: str = Field(
        "fit",
        description="Nodes that a pulled or created model goes to if the request names none: `fit` (those in whose "
        "memory it fits; all, while its size is unknown), `all`, names, or `label=value`, comma separated.",
    )
    sollol_drift: Literal["newest", "majority"] = Field(
        "newest",
        description="Which weights count where nodes have different ones under one name: the last modified, or those "
        "on most nodes. Lists tell these, and requests go to nodes that have them.",
    )
    sollol_ps: Literal["merged", "nodes"] = Field(
        "merged", description="What /api/ps lists: one row for each loaded model, or one for each model and node."
    )
    sollol_list_ttl_s: float = Field(
        600.0, gt=0, description="Seconds that the last known list of a node that does not answer still counts."
    )
    sollol_keepalive_s: float = Field(
        30.0,
        ge=0,
        description="Seconds after which a /v1 stream that has not begun gets a comment, and again each as long, so "
        "that proxies do not cut it; 0: never.",
    )
    sollol_native_keepalive_s: float = Field(
        0.0, ge=0, description="The same for /api/chat and /api/generate, where it is an object without text; 0: never."
    )
    sollol_prefill_s: float = Field(
        5.0,
        ge=0,
        description="Seconds between two looks for loaded models of which it is not known whether a chat that breaks "
        "off can go on at another node; each is probed once, with some 50 tokens. 0: none is probed.",
    )
    sollol_stall_s: float = Field(
        30.0,
        ge=0,
        description="Seconds without a byte after which a running stream is taken for broken, or a hundred times what "
        "the next token is expected to take if that is longer; long before, its node is asked whether it is there. "
        "0: neither.",
    )
    sollol_debug: bool = Field(False, description="Django's DEBUG; for development only.")
    sollol_https: bool = Field(
        False, description="Set when the gateway is reached over TLS: secure cookies, HSTS, redirect to https."
    )
    sollol_allowed_hosts: Names = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="Host names under which admin and the REST API may be reached, comma separated.",
    )
    sollol_secret_key: str = Field(
        "", description="Django's secret key. Empty: generated on first start and kept in the data folder."
    )
    sollol_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level logged.")
    sollol_log_format: Literal["line", "json"] = Field(
        "line", description="How a line of the log looks: for people, or one JSON object each."
    )
    sollol_log_requests: Literal["all", "errors", "off"] = Field(
        "all",
        description="Ended requests that are logged, one event each with its id and never with what was said: all, "
        "those that were not served, or none.",
    )
    sollol_traces: bool = Field(
        False,
        description="Send a trace of each request by OTLP; wants the extra `otel` and is told where by the variables "
        "of OpenTelemetry, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    sollol_max_queue: int = Field(
        2000, ge=1, description="Requests that may wait in the gateway; more are answered 429."
    )
    sollol_max_wait_s: float = Field(
        600.0, gt=0, description="Seconds that a request may wait for a slot before it is answered 503."
    )
    sollol_batch_spares: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Part of the slots for a model that batch jobs leave free while other requests come; one they "
        "always have.",
    )
    sollol_max_body_mb: int = Field(
        512, ge=1, description="Largest request body on inference routes, in MiB; more is 413."
    )
    sollol_max_blob_gb: float = Field(
        512.0, gt=0, description="Largest model file that can be uploaded, in GiB; more is 413."
    )
    sollol_spool_gb: float = Field(
        100.0,
        ge=0,
        description="Uploaded model files kept in the data folder, in GiB; above it those not used for an hour go, the "
        "least recently used first.",
    )
    sollol_spool_hours: float = Field(24.0, ge=0, description="Hours that an uploaded model file is kept unused.")
    sollol_vectors_mb: int = Field(
        64,
        ge=0,
        description="Vectors of texts kept in memory for teams whose policy says so, in MiB; above it those not used "
        "for longest go.",
    )
    sollol_vectors_disk_mb: int = Field(
        0,
        ge=0,
        description="The same in a SQLite file of the data folder, behind those in memory, where they outlive a "
        "restart. 0: none.",
    )
    sollol_connect_timeout_s: float = Field(5.0, gt=0, description="Seconds to wait for a connection to a node.")
    sollol_poll_s: float = Field(
        2.0, gt=0, description="Seconds between two looks at a healthy node's resident models."
    )
    sollol_shutdown_s: int = Field(
        30, ge=0, description="Seconds that running streams get to finish when the gateway stops."
    )
    sollol_drain_s: float = Field(
        0.0,
        ge=0,
        description="Seconds for which a gateway that stops still takes connections, while `/readyz` says 503: as long "
        "as a load balancer in front of it needs to notice.",
    )
    sollol_max_connections: int = Field(
        10_000, ge=10, description="Connections of clients at a time; more are answered 503."
    )
    sollol_record_buffer: int = Field(
        20_000,
        ge=1,
        description="Finished requests held in memory while the database is away; more are dropped and counted.",
    )
    sollol_history_days: int = Field(30, ge=1, description="Days that request history and node events are kept.")
    sollol_history_rows: int = Field(
        2_000_000,
        ge=0,
        description="Requests, and node events, that the history keeps at most; the oldest go first. 0: no limit.",
    )
    sollol_rollup_days: int = Field(
        400,
        ge=1,
        description="Days that the history's sums by day are kept; those by hour go with the history itself.",
    )
    sollol_batch_engine: Literal["django-q", "dask"] = Field(
        "django-q",
        description="What runs the steps of batch jobs: the workers of `manage.py qcluster`, or those of a Dask "
        "cluster; that wants the extra `dask`.",
    )
    sollol_dask_scheduler: str = Field(
        "", description="Address of Dask's scheduler, such as `tcp://host:8786`, where it runs the steps."
    )
    sollol_gateway_url: str = Field(
        "",
        description="Address under which workers reach the gateway, for batch jobs. Empty: SOLLOL_HOST and SOLLOL_PORT "
        "on this machine.",
    )
    sollol_batch_lease_s: float = Field(
        30.0,
        ge=2,
        description="Seconds without a sign of life after which the work of a batch step is given to another.",
    )
    sollol_batch_upload_mb: int = Field(
        1024, ge=1, description="Largest list of inputs that a batch job takes, in MiB; more is 413."
    )
    sollol_batch_free_mb: int = Field(
        512,
        ge=0,
        description="Batch jobs are paused, and uploads refused, while less than this is free in the data folder, in "
        "MiB.",
    )
    sollol_batch_days: float = Field(
        7.0, gt=0, description="Days that an ended batch job is kept with its inputs and results."
    )
    sollol_batch_callback_hosts: Names = Field(
        (),
        description="Hosts, as `name` or `name:port`, that may be told when a batch job has ended, comma separated. "
        "Empty: none.",
    )
    database_url: str = Field("", description="PostgreSQL address (`postgres://…`). Empty: SQLite in the data folder.")
    redis_url: str = Field("", description="Redis address (`redis://…`) of the channel layer. Empty: in memory.")

    @field_validator("sollol_allowed_hosts", "sollol_origins", "sollol_batch_callback_hosts", mode="before")
    @classmethod
    def split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
