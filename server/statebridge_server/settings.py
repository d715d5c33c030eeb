"""The operator's settings: in the environment (`STATEBRIDGE_...`) or in a YAML or JSON file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from statebridge.errors import InputError, nearest
from statebridge.experiment.declared import is_model_folder
from statebridge.experiment.experiment import Device, Dtype, Execution, Remote
from statebridge.experiment.models import DeviceMap, Weights
from statebridge.experiment.reading.mistakes import model_of
from statebridge.experiment.reading.yaml_text import read_yaml
from statebridge.pages.addresses import is_loopback

CONFIG_VARIABLE = "STATEBRIDGE_CONFIG"
"""Variable with the settings file, used without `--config`."""

Count = Annotated[int, Field(ge=1)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ListedModel(_Declared):
    """One side of a pair that this server may load."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or a folder on the server (see `is_model_folder`)."""
    revision: str | None = None
    adapter: Annotated[str, Field(min_length=1)] | None = None
    """PEFT adapter that is added to the weights: hub id, or a folder on the server."""
    weights: Weights | None = None
    """Weights of 4 or 8 bits in the place of whole ones."""
    device_map: DeviceMap | None = None
    """How it is laid over the GPUs of a copy, numbered within it; None is on one device."""
    name: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] = None
    """Its name in experiments; by default the hub id, or the folder's name."""
    remote: Remote | None = None
    """NDIF host that runs this side: `ndif` or a URL; None is where the pair runs."""

    @field_validator("model", "adapter")
    @classmethod
    def _absolute(cls, model: str | None) -> str | None:
        # The worker's working directory is the data directory.
        if model is not None and is_model_folder(model):
            return str(Path(model).expanduser().absolute())
        return model

    @model_validator(mode="after")
    def _names_are_whole(self) -> ListedModel:
        if self.revision is not None and is_model_folder(self.model):
            raise ValueError(f"revision goes with a model of the hub; {self.model} is a folder")
        if self.adapter is not None and self.name is None:
            raise ValueError("a model with an adapter is another model: give it a name")
        if self.weights is not None and self.name is None:
            raise ValueError("a model with weights of few bits is another model: give it a name")
        if self.weights is not None and (self.adapter or self.remote) is not None:
            raise ValueError("weights of few bits are made here, without an adapter; leave one out")
        if self.device_map is not None and self.remote is not None:
            raise ValueError("device_map: a remote host places its models itself; leave one out")
        return self

    @property
    def public_name(self) -> str:
        """Name of the model for clients."""
        if self.name is not None:
            return self.name
        return Path(self.model).name if is_model_folder(self.model) else self.model


class ListedPair(_Declared):
    """A pair that experiments may run on."""

    sender: ListedModel
    receiver: ListedModel
    dtypes: Annotated[tuple[Dtype, ...], Field(min_length=1)] = ("float32",)
    """Accepted dtypes; each one in use has its own copy of the weights. The first is loaded at the
    start of the server."""
    remote: Remote | None = None
    """NDIF host that runs both sides; None is this machine."""

    @model_validator(mode="before")
    @classmethod
    def _sides_remote(cls, data: Any) -> Any:
        """Give a side without a host of its own the host of the pair."""
        if not isinstance(data, dict) or data.get("remote") is None:
            return data
        sides = {
            side: {"remote": data["remote"], **data[side]}
            for side in ("sender", "receiver")
            if isinstance(data.get(side), dict)
        }
        return data | sides


class PairDevices(_Declared):
    """Devices of one copy of each pair."""

    device: Device = "auto"
    """Device of the receiver, and of the sender without a `sender_device`."""
    sender_device: Device | None = None
    more: tuple[Annotated[str, Field(pattern=r"^cuda(:\d+)?$")], ...] = ()
    """Further GPUs, for models with a `device_map`."""

    @model_validator(mode="after")
    def _more_of_one_kind(self) -> PairDevices:
        if self.more and not all(device.startswith("cuda") for device in self.all):
            raise ValueError("more: are GPUs beside a GPU; give the device as cuda or cuda:N")
        return self

    @property
    def all(self) -> tuple[str, ...]:
        """Its devices, those of the pair first."""
        both = (self.device, self.sender_device)
        return (*(device for device in both if device is not None), *self.more)


def _one_device(declared: Any) -> Any:
    return {"device": declared} if isinstance(declared, str) else declared


class Limits(_Declared):
    """Bounds on what clients may send and ask for."""

    upload_bytes: Count = 256 * 2**20
    """Size of one dataset or translator."""
    corpus_bytes: Count = 256 * 2**20
    """Size of one corpus: text to fit translators on."""
    body_bytes: Count = 1_000_000
    """Size of one experiment."""
    score_bytes: Count = 32 * 2**20
    """Size of the predictions to score."""
    body_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Longest time for a request's body to arrive."""
    rows: Count = 100_000
    """Rows of one dataset or scoring request, passages of one corpus."""
    prompt_chars: Count = 50_000
    """Length of one prompt (template, context and question), and of one passage of a corpus."""
    lanes: Count = 2_000_000
    """Rows times cells of one experiment."""
    lanes_together: Count = 4096
    """The largest `execution.max_lanes`."""
    new_tokens: Count = 1024
    """The largest `max_new_tokens` and `relay_max_new_tokens`."""
    fit_positions: Count = 20_000_000
    """Positions that a translator is fitted on; states of both models at each are on the disk."""
    fit_epochs: Count = 200
    fit_hidden_dim: Count = 16_384
    group_seconds: Annotated[float, Field(gt=0)] | None = None
    """Longest time for one group of rows, or one training, on an actor: the lower of this and
    `execution.group_seconds`; None waits without end."""
    queue_length: Count = 1000
    """Queued experiments of all keys together."""
    jobs_per_key: Count = 100
    """Queued and running experiments of one key."""
    doctor_seconds: Count = 120
    """Longest time for the doctor's answer to one experiment."""
    event_streams: Count = 500
    """Open event streams of all keys together."""


class Settings(BaseSettings):
    """Settings of the server and its workers."""

    model_config = SettingsConfigDict(
        env_prefix="STATEBRIDGE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    data: Path = Path("statebridge-data")
    """Data directory: database, uploads, translators, runs. One server uses one."""
    database_url: str | None = None
    """Any SQLAlchemy URL; by default SQLite in the data directory."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    pairs: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ListedPair] = {}
    """The pairs that may run, by name; no other model is ever loaded."""
    device: Device = "auto"
    """Where each pair is; `devices` replaces it."""
    devices: (
        Annotated[
            tuple[Annotated[PairDevices, BeforeValidator(_one_device)], ...], Field(min_length=1)
        ]
        | None
    ) = None
    """A copy of each pair for each: a device, or {device, sender_device}. Several need Ray."""
    reuse: bool = True
    """Reuse lanes of earlier experiments of the same key, and of shared ones."""
    preload: bool = True
    """Load every listed pair at the start, and not with its first job."""
    limits: Limits = Limits()
    metrics_open: bool = False
    """Serve /metrics without a key."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        return data.expanduser().absolute()

    @property
    def url(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data / 'statebridge.sqlite'}"

    @model_validator(mode="after")
    def _devices_are_alike(self) -> Settings:
        listed = [device for each in self.copies for device in each.all]
        alike = {
            (each.sender_device is None, *(device.partition(":")[:2] for device in each.all))
            for each in self.copies
        }
        if len(alike) > 1:
            raise ValueError(
                "devices: the rows of an experiment come from one kind of device; list several of "
                "one kind (all cpu, or all GPUs by number), each with a sender_device or none, and "
                "with as many more"
            )
        twice = next((d for d in listed if ":" in d and listed.count(d) > 1), None)
        if self.sees_listed and twice is not None:
            raise ValueError(f"devices: {twice} is listed twice; list each GPU once")
        return self

    @model_validator(mode="after")
    def _maps_fit(self) -> Settings:
        gpus = sum(device != "cpu" for device in self.copies[0].all)
        for name, pair in self.pairs.items() if self.sees_listed else ():
            maps = (pair.sender.device_map, pair.receiver.device_map)
            named = {p for each in maps if isinstance(each, dict) for p in each.values()}
            beyond = sorted(p for p in named if p.startswith("cuda") and int(p[5:]) >= gpus)
            if beyond:
                raise ValueError(
                    f"pairs.{name}: device_map names {beyond[0]}, and each copy has {gpus} GPU(s), "
                    "counted from cuda:0; list more of them in devices"
                )
        return self

    @property
    def copies(self) -> tuple[PairDevices, ...]:
        """Devices of each copy of the pairs."""
        return self.devices or (PairDevices(device=self.device),)

    @property
    def numbered_gpus(self) -> list[int]:
        """GPUs that are listed by number, those of one copy after those of another."""
        listed = [device for each in self.copies for device in each.all]
        return [int(device.partition(":")[2]) for device in listed if ":" in device]

    @property
    def sees_listed(self) -> bool:
        """Whether the worker sees the listed GPUs alone, from the first."""
        return len(self.copies) > 1 or bool(self.copies[0].more)

    @property
    def placement(self) -> Execution:
        """Where experiments run: in the worker, or on an actor for each of several devices."""
        first = self.copies[0]
        device, sender = first.device, first.sender_device
        if self.sees_listed:
            device = "cuda:0" if ":" in device else device
            sender = "cuda:1" if sender and ":" in sender else sender
        if len(self.copies) == 1:
            return Execution(device=device, sender_device=sender)
        return Execution(
            executor="ray",
            workers=len(self.copies),
            worker_gpus=len(first.all) if first.more else None,
            device=device,
            sender_device=sender,
            group_seconds=self.limits.group_seconds,
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content comes as arguments."""
        return env_settings, init_settings


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read settings: `overrides`, then the environment, then the file, then the defaults.

    Raises:
        InputError: The file cannot be read, or a setting is unknown or wrong; the message
            names it.
    """
    chosen = config or (
        Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None
    )
    content = {} if chosen is None else _read(chosen)
    try:
        settings = Settings(**content)
        given = {name: value for name, value in overrides.items() if value is not None}
        if given:
            settings = fixed_settings(settings.model_dump() | given)
    except ValidationError as error:
        # An unknown name often explains a missing one.
        first = max(error.errors(), key=lambda each: each["type"] == "extra_forbidden")
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"]
        if first["type"] == "extra_forbidden":
            problem = f"unknown field; {nearest(str(first['loc'][-1]), _known(first['loc'][:-1]))}"
        raise InputError(f"{chosen or 'settings'}: {field}: {problem}") from None
    except SettingsError as error:
        raise InputError(f"settings: {error}; give JSON in that variable") from None
    return settings


def _known(location: tuple[str | int, ...]) -> list[str]:
    """Return the fields at a place in the settings."""
    model: type[BaseModel] = Settings
    for part in location:
        field = model.model_fields.get(str(part))
        # Otherwise it is a key of the operator, such as a pair's name.
        model = (model_of(field.annotation) if field else None) or model
    return list(model.model_fields)


def fixed_settings(values: dict[str, Any]) -> Settings:
    """Return settings with exactly these values, without reading environment or file."""
    return _Fixed(**values)


class _Fixed(Settings):
    """The same fields, read from arguments alone."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None
    content, _ = read_yaml(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: a settings file is a mapping of fields")
    return {str(name): value for name, value in content.items()}
